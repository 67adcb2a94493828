"""DMD2 (Yin et al., arXiv 2405.14867): distribution matching and a discriminator at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class DMD2(Objective):
    """Plain reverse KL plus a GAN whose classifier sits on the fake score, all trained together.

    DMD2 is for images: its classifier convolves in two dimensions. Frames go through such a one here and are pooled to
    one logit a clip; convolutions over time, too, are FVGen's.
    """

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "backward_simulation"
    """Input of the student: noised real clips, or simulated from noise as in use."""
    critic_steps: int = 5
    """Updates of fake score and classifier for each update of the student."""
    gan_weight: float = 5e-3
    """Weight of the adversarial term in the student's loss."""
    classifier_weight: float = 1e-2
    """Weight of the adversarial term in the fake score's loss."""
    matching: DistributionMatching = field(default_factory=lambda: DistributionMatching("reverse_kl"))
    """Distribution-matching term."""
    adversarial: Adversarial = field(default_factory=lambda: Adversarial(backbone="fake_score", head="frames"))
    """Adversarial term."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        ratio = ("density_ratio",) if self.matching.needs_ratio else ()
        return ("student", "teacher", "fake_score", "discriminator", *ratio)

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student", "fake_score", "discriminator")

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        matching, meters = self.matching.student_term(roles, z, batch, random, self.adversarial)
        adversarial, more = self.adversarial.student_term(roles, z, batch, random)
        return {"loss": matching + self.gan_weight * adversarial, "generated": z.detach(), **meters, **more}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for fake score and classifier, and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        diffusion, meters = self.matching.fake_score_term(roles, z, batch, random)
        classification, more = self.adversarial.critic_term(roles, z, batch, random)
        return {"loss": diffusion + self.classifier_weight * classification, **meters, **more}
