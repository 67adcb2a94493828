"""CausVid's training (Yin et al., arXiv 2412.07772) as FVGen is compared with: regression on ODE pairs, then DMD.

Two runs: `CausVidRegression` makes the student ready, `CausVid` goes on from it. CausVid's student looks only
backwards in time; here it has the teacher's architecture, since all frames of a clip are wanted at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.sampling import sample_ddim
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class CausVidRegression(Objective):
    """The student learns where the teacher's deterministic sampler ends, from points along its way.

    Every update runs the teacher's whole sampler: about ``2·teacher_steps`` of its calls for one of the student.
    CausVid's code makes a fixed set of some 1500 pairs beforehand and goes over it again and again.
    """

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    teacher_steps: int = 50
    """Steps of the teacher's sampler. The student's timesteps are added to its own."""
    guidance_scale: float = 4.5
    """Guidance scale of the teacher. CausVid counts from 0 and writes 3.5 for 4.5."""
    guidance_rescale: float = 0.0
    """Rescale of the teacher's guidance."""
    critic_steps: int = 0
    """Updates of critics for each update of the student. There is no critic to train."""

    def __post_init__(self) -> None:
        require(self.teacher_steps >= 1, "teacher_steps", "be at least 1", self.teacher_steps, "50 is the teacher's.")

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        return ("student", "teacher")

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student",)

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        schedule = roles.schedule
        points, target = self.trajectory(roles, batch, random.randn_like(batch.latents))
        which = random.randint(0, len(self.timesteps)).to(target.device)
        x_t = points[which, torch.arange(len(batch), device=target.device)]
        t = torch.tensor(self.timesteps).to(target.device)[which]
        network: Any = roles.student
        z = schedule.unscale_latents(conditional_denoiser(network, batch.conditions, schedule)(x_t, t), t)
        errors = (z - target).square().flatten(1).mean(dim=1)
        return {"loss": errors.mean(), "regression": errors.detach(), "generated": z.detach()}

    @torch.no_grad()
    def trajectory(self, roles: Roles, batch: TrainBatch, x_T: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's ODE from noise x_T [B, F, C, h, w].

        Returns: x_t [N, B, F, C, h, w] at the student's N timesteps, and the sample [B, F, C, h, w] where it ends.
        """
        schedule = roles.schedule
        network: Any = roles.teacher
        denoise = conditional_denoiser(
            network,
            batch.conditions,
            schedule,
            guidance_scale=self.guidance_scale,
            guidance_rescale=self.guidance_rescale,
        )
        stops = self._stops(schedule.timesteps(self.teacher_steps))
        points = {stops[0]: x_T}

        def keep(step: int, t: int, x: Tensor) -> None:
            if step + 1 < len(stops) and stops[step + 1] in self.timesteps:
                points[stops[step + 1]] = x

        sample = sample_ddim(denoise, x_T, stops, schedule, randn_like=torch.zeros_like, eta=0.0, callback=keep)
        return torch.stack([points[t] for t in self.timesteps]), sample

    def _stops(self, teacher_timesteps: Sequence[int]) -> list[int]:
        below = {t for t in teacher_timesteps if t < self.timesteps[0]}
        return sorted(below | set(self.timesteps), reverse=True)


@dataclass(frozen=True)
class CausVid(Objective):
    """Distribution matching with plain reverse KL and no discriminator."""

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "noised_real"
    """Input of the student: noised real clips, or simulated from noise as in use."""
    critic_steps: int = 5
    """Updates of the fake score for each update of the student."""
    matching: DistributionMatching = field(
        default_factory=lambda: DistributionMatching("reverse_kl", guidance_scale=4.5, guidance_rescale=0.0)
    )
    """Distribution-matching term."""

    def __post_init__(self) -> None:
        require(
            not self.matching.needs_ratio,
            "divergence",
            "be reverse_kl, since CausVid has no discriminator",
            self.matching.divergence,
            "Use fvgen_stage2 for other divergences.",
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        return ("student", "teacher", "fake_score")

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student", "fake_score")

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.matching.student_term(roles, z, batch, random, Adversarial())
        return {"loss": loss, "generated": z.detach(), **meters}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the fake score, and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.matching.fake_score_term(roles, z, batch, random)
        return {"loss": loss, **meters}
