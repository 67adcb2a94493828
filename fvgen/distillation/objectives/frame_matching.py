"""Distribution matching of single frames by an image diffusion model that shares the latents (AVDM2, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.diffusion.prediction import OutputKind
from fvgen.distillation.losses import diffusion_loss, distribution_matching_loss, dmd_normaliser
from fvgen.distillation.objectives.draws import Range, check_range, draw_timesteps, noised
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class FrameMatching:
    """Reverse KL between frames of the student's clips and the image model's."""

    frames: int = 4
    """Number of random frames of each clip that are matched. A shorter clip gives all of its frames."""
    t_range: Range = (0.2, 0.98)
    """Lowest and highest noise level, as shares of the image model's timesteps."""
    prediction: OutputKind = "epsilon"
    """Kind of output of the image model."""
    text_tokens: int = 77
    """Number of the clip's first tokens that the image model gets. 0 is for a model without tokens (UNet2DModel)."""

    def __post_init__(self) -> None:
        check_range("t_range", self.t_range)
        require(self.frames >= 1, "frames", "be at least 1", self.frames, "4 is usual.")
        require(self.text_tokens >= 0, "text_tokens", "be 0 or more", self.text_tokens, "77 is CLIP's.")

    def student_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the student's clips z [B, F, C, h, w], whose gradient reaches K frames of each alone; and meters."""
        schedule: Any = roles.frame_schedule
        frames, tokens = self._choose(z, batch, random)
        t = self._timesteps(schedule, self.t_range, frames, random)
        with torch.no_grad():
            x_t = noised(schedule, frames, self._noise(frames, random), t)
            real, fake = (
                schedule.unscale_latents(self._x0(network, schedule, x_t, t, tokens), t)
                for network in (roles.frame_teacher, roles.frame_fake_score)
            )
            weight = dmd_normaliser(frames, real)
        loss = distribution_matching_loss(frames, real, fake, weight)
        return loss, {"frame_matching": loss.detach()}

    def fake_score_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss of the image fake score on K frames of the student's clips z [B, F, C, h, w]; and meters."""
        schedule: Any = roles.frame_schedule
        frames, tokens = self._choose(z.detach(), batch, random)
        t = self._timesteps(schedule, (0.0, 1.0), frames, random)
        x0 = schedule.scale_latents(frames, t)
        x_t = schedule.add_noise(x0, self._noise(frames, random), t)
        predicted = self._x0(roles.frame_fake_score, schedule, x_t, t, tokens)
        loss = diffusion_loss(predicted, x0, t, schedule, self.prediction)
        return loss, {"frame_fake_score": loss.detach()}

    def _choose(self, z: Tensor, batch: TrainBatch, random: BatchRandom) -> tuple[Tensor, Tensor | None]:
        """Random frames [B*K, C, h, w] and the tokens [B*K, N, D] that the image model gets."""
        count = min(self.frames, z.shape[1])
        which = random.choose(z.shape[1], count).to(z.device)
        frames = z[torch.arange(len(z), device=z.device)[:, None], which].flatten(0, 1)
        if self.text_tokens == 0:
            return frames, None
        return frames, batch.conditions.tokens[:, : self.text_tokens].repeat_interleave(count, dim=0)

    def _timesteps(self, schedule: NoiseSchedule, t_range: Range, frames: Tensor, random: BatchRandom) -> Tensor:
        return draw_timesteps(random, schedule, t_range, frames, len(frames) // len(random)).flatten()

    def _noise(self, frames: Tensor, random: BatchRandom) -> Tensor:
        return random.randn_like(frames.unflatten(0, (len(random), -1))).flatten(0, 1)

    def _x0(self, network: Any, schedule: NoiseSchedule, x_t: Tensor, t: Tensor, tokens: Tensor | None) -> Tensor:
        text = {} if tokens is None else {"encoder_hidden_states": tokens.to(x_t)}
        return schedule.to_x0(network(x_t, t, **text).sample.to(x_t.dtype), x_t, t, self.prediction)
