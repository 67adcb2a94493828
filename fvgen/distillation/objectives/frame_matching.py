"""Distribution matching of single frames by an image diffusion model that shares the latents (AVDM2, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.guidance import guide
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
    guidance_scale: float = 1.0
    """Guidance scale of the image model. 1 switches guidance off."""
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
        frames, which = self._choose(z, random)
        tokens = self._tokens(batch.conditions, which)
        t = self._timesteps(schedule, frames, random)
        with torch.no_grad():
            x_t = noised(schedule, frames, self._noise(frames, random), t)
            real = self._predict(roles.frame_teacher, x_t, t, tokens)
            if self.guidance_scale != 1:
                away = self._predict(roles.frame_teacher, x_t, t, self._tokens(batch.conditions.unconditional(), which))
                real = guide(real, away, self.guidance_scale)
            fake = self._predict(roles.frame_fake_score, x_t, t, tokens)
            real, fake = (
                schedule.unscale_latents(schedule.to_x0(output, x_t, t, self.prediction), t) for output in (real, fake)
            )
            weight = dmd_normaliser(frames, real)
        loss = distribution_matching_loss(frames, real, fake, weight)
        return loss, {"frame_matching": loss.detach()}

    def fake_score_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss of the image fake score on K frames of the student's clips z [B, F, C, h, w]; and meters."""
        schedule: Any = roles.frame_schedule
        frames, which = self._choose(z.detach(), random)
        t = self._timesteps(schedule, frames, random)
        x0 = schedule.scale_latents(frames, t)
        x_t = schedule.add_noise(x0, self._noise(frames, random), t)
        output = self._predict(roles.frame_fake_score, x_t, t, self._tokens(batch.conditions, which))
        loss = diffusion_loss(schedule.to_x0(output, x_t, t, self.prediction), x0, t, schedule, self.prediction)
        return loss, {"frame_fake_score": loss.detach()}

    def _choose(self, z: Tensor, random: BatchRandom) -> tuple[Tensor, Tensor]:
        """Random frames [B*K, C, h, w] of z [B, F, C, h, w], and which ones [B, K] of their clip they are."""
        which = random.choose(z.shape[1], min(self.frames, z.shape[1])).to(z.device)
        return rearrange(z[torch.arange(len(z), device=z.device)[:, None], which], "b k c h w -> (b k) c h w"), which

    def _tokens(self, conditions: Conditions, which: Tensor) -> Tensor | None:
        """The tokens [B*K, N, D] that the image model gets with the frames ``which`` [B, K]."""
        if self.text_tokens == 0:
            return None
        return repeat(conditions.tokens[:, : self.text_tokens], "b n d -> (b k) n d", k=which.shape[1])

    def _timesteps(self, schedule: NoiseSchedule, frames: Tensor, random: BatchRandom) -> Tensor:
        """Noise levels [B*K], the same range for teacher and fake score."""
        return draw_timesteps(random, schedule, self.t_range, frames, len(frames) // len(random)).flatten()

    def _noise(self, frames: Tensor, random: BatchRandom) -> Tensor:
        return random.randn_like(frames.unflatten(0, (len(random), -1))).flatten(0, 1)

    def _predict(self, network: Any, x_t: Tensor, t: Tensor, tokens: Tensor | None) -> Tensor:
        text = {} if tokens is None else {"encoder_hidden_states": tokens.to(x_t)}
        return network(x_t, t, **text).sample.to(x_t.dtype)
