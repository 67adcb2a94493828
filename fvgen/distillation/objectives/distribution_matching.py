"""The distribution-matching part of a recipe: teacher's score against fake score, weighted by a divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.sampling import Denoise
from fvgen.distillation.divergences import DIVERGENCES, DivergenceName
from fvgen.distillation.losses import diffusion_loss, distribution_matching_loss, dmd_normaliser
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.draws import Range, check_range, draw_timesteps, noised
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class DistributionMatching:
    """Gradient of an f-divergence between the noised distributions of student and teacher (FVGen eq. 8, put right)."""

    divergence: DivergenceName = "softened_reverse_kl"
    """Divergence between student and teacher. paper_eq8 is a misprint of the paper, kept for reproduction."""
    guidance_scale: float = 7.5
    """Guidance scale of the teacher. 1 switches guidance off."""
    guidance_rescale: float = 0.7
    """Rescale of the teacher's guidance."""
    t_range: Range = (0.02, 0.98)
    """Lowest and highest noise level, as shares of all timesteps. The paper writes (0, 1); DMD's code leaves out both
    ends, where the score difference is no number (no signal) or all rounding (no noise)."""
    fake_t_range: Range = (0.0, 1.0)
    """Noise levels that the fake score is trained on, as shares of all timesteps."""
    weighting: Literal["dmd", "score"] = "dmd"
    """Weight of a clip's difference of predictions: DMD's 1 / mean|z - z_real|, or that of the score difference."""

    def __post_init__(self) -> None:
        require(
            self.divergence in DIVERGENCES,
            "divergence",
            f"be one of {tuple(DIVERGENCES)}",
            self.divergence,
            "softened_reverse_kl is FVGen's.",
        )
        check_range("t_range", self.t_range)
        check_range("fake_t_range", self.fake_t_range)

    @property
    def needs_ratio(self) -> bool:
        """Whether the divergence weighs clips by the discriminator's r."""
        return DIVERGENCES[self.divergence].needs_ratio

    def student_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom, adversarial: Adversarial
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the student's clips z [B, F, C, h, w], whose gradient reaches z alone; and meters.

        Args:
            adversarial: how the discriminator sees clips; unused where the divergence needs no ratio.
        """
        schedule = roles.schedule
        t = draw_timesteps(random, schedule, self.t_range, z)
        with torch.no_grad():
            x_t = noised(schedule, z, random.randn_like(z), t)
            teacher = _WithFeatures(roles.teacher, adversarial.features if self._from_teacher(adversarial) else "none")
            x0_real = conditional_denoiser(
                teacher,
                batch.conditions,
                schedule,
                guidance_scale=self.guidance_scale,
                guidance_rescale=self.guidance_rescale,
            )(x_t, t)
            x0_fake = self._fake_denoiser(roles, batch)(x_t, t)
            z_real, z_fake = schedule.unscale_latents(x0_real, t), schedule.unscale_latents(x0_fake, t)
            weight = dmd_normaliser(z, z_real) if self.weighting == "dmd" else score_weight(schedule, t)
            meters: dict[str, Tensor] = {}
            if self.needs_ratio:
                if self._from_teacher(adversarial):
                    logits = adversarial.logits_of(roles, teacher.output)
                else:
                    logits = adversarial.logits(roles, x_t, t, batch.conditions)
                ratio: Any = roles.density_ratio
                # r is that of the data; the score it weighs is the teacher's under guidance. The paper guides one and
                # not the other, too: a guided r would need a discriminator of guided clips.
                r = ratio(logits)
                h = DIVERGENCES[self.divergence].h(r)
                weight = weight * ratio.normalise(h)
                meters |= {"r": r, "h": h, "logit_fake": logits}
        loss = distribution_matching_loss(z, z_real, z_fake, weight)
        return loss, {"matching": loss.detach(), "score_gap": (z_fake - z_real).abs().mean(), **meters}

    def fake_score_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Diffusion loss of the fake score on the student's clips z [B, F, C, h, w]; and meters."""
        schedule = roles.schedule
        t = draw_timesteps(random, schedule, self.fake_t_range, z)
        x0 = schedule.scale_latents(z.detach(), t)
        x_t = schedule.add_noise(x0, random.randn_like(z), t)
        # In v, for the eps that the paper writes: at zero terminal SNR the last x_t is all noise, and its eps says
        # nothing of x0.
        loss = diffusion_loss(self._fake_denoiser(roles, batch)(x_t, t), x0, t, schedule)
        return loss, {"fake_score": loss.detach()}

    @staticmethod
    def _fake_denoiser(roles: Roles, batch: TrainBatch) -> Denoise:
        network: Any = roles.fake_score
        return conditional_denoiser(network, batch.conditions, roles.schedule)

    def _from_teacher(self, adversarial: Adversarial) -> bool:
        return self.needs_ratio and adversarial.backbone == "teacher"


def score_weight(schedule: Any, t: Tensor) -> Tensor:
    """[B] factor from a difference of predictions of z to the score difference's pull on z: ᾱ_t·scale(t)² / (1-ᾱ_t).

    s_real - s_fake = sqrt(ᾱ_t) / (1-ᾱ_t)·(x0_real - x0_fake) with x0 = scale·z, and dx_t/dz = sqrt(ᾱ_t)·scale.
    """
    alpha = schedule.alphas_cumprod.to(t.device)[t]
    return alpha * schedule.scale_arr.to(t.device)[t].square() / (1 - alpha)


class _WithFeatures:
    """A network that gives features along with its first prediction: half a pass less for the discriminator."""

    def __init__(self, network: Any, features: str) -> None:
        self._network, self._features = network, features
        self.output: Any = None

    def __call__(self, *inputs: Any) -> Any:
        if self._features == "none" or self.output is not None:  # the second call is guidance's unconditional one
            return self._network(*inputs)
        self.output = self._network(*inputs, return_features=self._features)
        return self.output
