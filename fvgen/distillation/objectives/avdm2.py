"""AVDM2 (Zhu et al., arXiv 2412.05899): a video discriminator beside an image model's score."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class AVDM2(Objective):
    """Sum of λ_ADM · adversarial matching of clips and λ_SDM · score matching of frames (its eq. 9)."""

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "backward_simulation"
    """Input of the student: noised real clips, or simulated from noise as in use."""
    critic_steps: int = 2
    """Updates of discriminator and image fake score for each update of the student."""
    adversarial_weight: float = 1.0
    """Weight λ_ADM of the adversarial term. The paper names no value."""
    matching_weight: float = 1.0
    """Weight λ_SDM of the score-matching term. The paper names no value."""
    adversarial: Adversarial = field(default_factory=lambda: Adversarial(t_range=(0.0, 0.5), features="multiscale"))
    """Adversarial term."""
    matching: FrameMatching = field(default_factory=FrameMatching)
    """Score-matching term."""

    @property
    def frame_matching(self) -> FrameMatching:
        """How frames are matched with an image model."""
        return self.matching

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        return ("student", "teacher", "discriminator", "frame_schedule", "frame_teacher", "frame_fake_score")

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student", "discriminator", "frame_fake_score")

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        adversarial, meters = self.adversarial.student_term(roles, z, batch, random)
        matching, more = self.matching.student_term(roles, z, batch, random)
        loss = self.adversarial_weight * adversarial + self.matching_weight * matching
        return {"loss": loss, "generated": z.detach(), **meters, **more}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for discriminator and image fake score, and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        classification, meters = self.adversarial.critic_term(roles, z, batch, random)
        diffusion, more = self.matching.fake_score_term(roles, z, batch, random)
        return {"loss": classification + diffusion, **meters, **more}
