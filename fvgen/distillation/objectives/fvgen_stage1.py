"""FVGen's first stage: the student is made ready by a discriminator alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.objectives.regression import Regression
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class FVGenStage1(Objective):
    """GAN initialisation (arXiv 2508.06392, section 4.1): a discriminator between the student's clips and real ones.

    Both stages must take the same input: the second asks this stage's discriminator about the student's clips.
    """

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "noised_real"
    """Input of the student: noised real clips as in the paper, or simulated from noise as in use."""
    critic_steps: int = 5
    """Updates of the discriminator for each update of the student."""
    adversarial: Adversarial = field(default_factory=Adversarial)
    """Adversarial term."""
    regression: Regression = field(default_factory=Regression)
    """Regression to the real clips."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        return ("student", "teacher", "discriminator")

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student", "discriminator")

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.adversarial.student_term(roles, z, batch, random)
        loss, meters = self.regression.added_to(loss, meters, z, batch)
        return {"loss": loss, "generated": z.detach(), **meters}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the discriminator, and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.adversarial.critic_term(roles, z, batch, random)
        return {"loss": loss, **meters}
