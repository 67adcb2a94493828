"""FVGen's second stage: the student's distribution is brought to the teacher's, by a softened divergence."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.objectives.regression import Regression
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class FVGenStage2(Objective):
    """Distribution matching (arXiv 2508.06392, section 4.2) with the density ratio of stage 1's discriminator."""

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "noised_real"
    """Input of the student: noised real clips as in the paper, or simulated from noise as in use."""
    critic_steps: int = 5
    """Updates of the fake score for each update of the student."""
    discriminator_every: int = 0
    """Mean number of fake-score updates between two of the discriminator, drawn at random. 0 freezes it."""
    matching: DistributionMatching = field(default_factory=DistributionMatching)
    """Distribution-matching term."""
    adversarial: Adversarial = field(default_factory=Adversarial)
    """How the discriminator sees clips: as in stage 1."""
    regression: Regression = field(default_factory=Regression)
    """Regression to the real clips."""

    def __post_init__(self) -> None:
        require(
            self.discriminator_every >= 0,
            "discriminator_every",
            "be 0 or more",
            self.discriminator_every,
            "0 freezes it.",
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        ratio = ("discriminator", "density_ratio") if self.matching.needs_ratio else ()
        return ("student", "teacher", "fake_score", *ratio)

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student", "fake_score", *(("discriminator",) if self._trains_discriminator else ()))

    @property
    def _trains_discriminator(self) -> bool:
        return self.matching.needs_ratio and self.discriminator_every > 0

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.matching.student_term(roles, z, batch, random, self.adversarial)
        loss, meters = self.regression.added_to(loss, meters, z, batch)
        return {"loss": loss, "generated": z.detach(), **meters}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the fake score, and for the discriminator where it is trained on; and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.matching.fake_score_term(roles, z, batch, random)
        if self._trains_discriminator and random.shared_randint(0, self.discriminator_every) == 0:
            classification, more = self.adversarial.critic_term(roles, z, batch, random)
            loss, meters = loss + classification, meters | more
        return {"loss": loss, **meters}
