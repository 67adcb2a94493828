"""AVDM2 (Zhu et al., arXiv 2412.05899): a video discriminator beside an image model's score.

Its comparisons are here, too: a video model's score in the image model's place (its section 4.2), and the discriminator
alone (its Figure 4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import STUDENT_TIMESTEPS, StudentInput, draw_clips
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class AVDM2(Objective):
    """Sum of λ_ADM · adversarial matching of clips and λ_SDM · score matching (its eq. 9)."""

    timesteps: tuple[int, ...] = STUDENT_TIMESTEPS
    """Timesteps of the student, largest first."""
    student_input: StudentInput = "backward_simulation"
    """Input of the student: noised real clips, or simulated from noise as in use."""
    critic_steps: int = 2
    """Updates of discriminator and fake score for each update of the student."""
    score: Literal["frames", "video", "none"] = "frames"
    """Score that is matched: that of single frames under an image model, that of clips under the teacher, or none."""
    adversarial_weight: float = 1.0
    """Weight λ_ADM of the adversarial term. The paper names no value."""
    matching_weight: float = 1.0
    """Weight λ_SDM of the score-matching term. The paper names no value."""
    adversarial: Adversarial = field(
        default_factory=lambda: Adversarial(t_range=(0.0, 0.5), features="multiscale", head="concatenated")
    )
    """Adversarial term."""
    matching: FrameMatching = field(default_factory=FrameMatching)
    """Score-matching term of single frames."""
    video_matching: DistributionMatching = field(
        default_factory=lambda: DistributionMatching(
            "reverse_kl", guidance_scale=1.0, t_range=(0.2, 0.98), fake_t_range=(0.2, 0.98)
        )
    )
    """Score-matching term of clips, where the score is video."""

    def __post_init__(self) -> None:
        divergence = self.video_matching.divergence
        plain = not self.video_matching.needs_ratio
        require(plain, "divergence", "be reverse_kl for AVDM2", divergence, "Use fvgen-stage2 for other divergences.")

    @property
    def frame_matching(self) -> FrameMatching | None:
        """How frames are matched with an image model."""
        return self.matching if self.score == "frames" else None

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        image = ("frame_schedule", "frame_teacher", "frame_fake_score")
        own = {"frames": image, "video": ("fake_score",), "none": ()}
        return ("student", "teacher", "discriminator", *own[self.score])

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return tuple(role for role in self.needs if role not in ("teacher", "frame_teacher", "frame_schedule"))

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for the student, and meters."""
        z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        adversarial, meters = self.adversarial.student_term(roles, z, batch, random)
        loss = self.adversarial_weight * adversarial
        if self.score != "none":
            matching, more = (
                self.matching.student_term(roles, z, batch, random)
                if self.score == "frames"
                else self.video_matching.student_term(roles, z, batch, random, self.adversarial)
            )
            loss, meters = loss + self.matching_weight * matching, meters | more
        return {"loss": loss, "generated": z.detach(), **meters}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` for discriminator and fake score, and meters."""
        with torch.no_grad():
            z = draw_clips(roles, batch, random, self.timesteps, self.student_input)
        loss, meters = self.adversarial.critic_term(roles, z, batch, random)
        if self.score != "none":
            term = self.matching if self.score == "frames" else self.video_matching
            diffusion, more = term.fake_score_term(roles, z, batch, random)
            loss, meters = loss + diffusion, meters | more
        return {"loss": loss, **meters}
