"""The recipes that `mixture_2d` compares, and the density ratio that none of them has to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from mixture_2d_networks import DEVIATION, MEANS, WEIGHTS, ExactTeacher
from torch import Tensor, nn

from fvgen.distillation.divergences import DivergenceName
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.dmd2 import DMD2
from fvgen.distillation.objectives.draws import StudentInput
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2

Ratio = Literal["frozen", "trained on", "exact"]
"""Where r comes from: the first stage's discriminator, the same trained on, or `ExactRatio`."""
REMEMBERED = 8
"""Student updates whose points `ExactRatio` knows the student by."""


@dataclass(frozen=True)
class Row:
    """A second stage."""

    divergence: DivergenceName = "reverse_kl"
    ratio: Ratio = "frozen"
    student_input: StudentInput = "backward_simulation"
    """Input of the student in this stage, and in the first one."""
    after_gan: bool = True
    """Whether a first stage comes before."""
    joint: bool = False
    """DMD2: one stage with reverse KL and a discriminator at once."""

    def objective(self, critic_steps: int) -> FVGenStage2 | DMD2:
        """The recipe that the trainer has, without guidance, on the exact teacher's features."""
        matching = DistributionMatching(self.divergence, guidance_scale=1.0)
        if self.joint:  # the fake score, a perceptron, has no features to classify: the teacher's stand in
            return DMD2(critic_steps=critic_steps, matching=matching, adversarial=Adversarial())
        every = 2 if self.ratio == "trained on" else 0
        return FVGenStage2(
            student_input=self.student_input, critic_steps=critic_steps, discriminator_every=every, matching=matching
        )


SECOND_STAGES: Mapping[str, Row] = {
    "no GAN, reverse KL": Row(after_gan=False),
    "no GAN, softened, r exact": Row("softened_reverse_kl", "exact", after_gan=False),
    "DMD2, jointly": Row(after_gan=False, joint=True),
    "GAN, reverse KL": Row(),
    "GAN, softened, D frozen": Row("softened_reverse_kl"),
    "GAN, softened, D trained on": Row("softened_reverse_kl", "trained on"),
    "GAN, softened, r exact": Row("softened_reverse_kl", "exact"),
    "GAN, 1/r (eq. 8 as printed), D trained on": Row("paper_eq8", "trained on"),
    "noised real, GAN, reverse KL": Row(student_input="noised_real"),
    "noised real, GAN, softened, D frozen": Row("softened_reverse_kl", student_input="noised_real"),
    "noised real, GAN, softened, D trained on": Row("softened_reverse_kl", "trained on", student_input="noised_real"),
}
"""Rows by name. Those that do not say "noised real" simulate the student's input from noise, as it is used."""


class ExactRatio(nn.Module):
    """log p_real - log p_fake of noised points, in a discriminator's place: nothing is learnt.

    p_real is the noised mixture. p_fake is that of the student's last points, each widened by the noise: exact but for
    their number.
    """

    def __init__(self, runs: int, teacher: ExactTeacher) -> None:
        super().__init__()
        self._runs, self._teacher = runs, teacher
        self._points: list[Tensor] = []

    def see(self, points: Tensor) -> None:
        """Take in the student's points [runs * B, 1, 2, 1, 1] of an update."""
        self._points = [*self._points, points.reshape(self._runs, -1, 2)][-REMEMBERED:]

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits [runs * B] of the teacher's features."""
        x, t = self._teacher.seen(features[0][:, 0, :, 0, 0])
        if not self._points:
            return torch.zeros(len(x))
        schedule = self._teacher.schedule
        scaled = schedule.sqrt_alphas_cumprod[t] * schedule.scale_arr[t]
        noise = schedule.sqrt_one_minus_alphas_cumprod[t]
        real = _log_density(x[:, None] - scaled[:, None, None] * MEANS, (scaled * DEVIATION) ** 2 + noise**2)
        log_real = (real + WEIGHTS.log()).logsumexp(1)
        known = torch.cat(self._points, dim=1)  # [runs, N, 2]
        x, scaled = x.reshape(self._runs, -1, 1, 2), scaled.reshape(self._runs, -1, 1, 1)
        away = (x - scaled * known[:, None]).flatten(0, 1)
        log_fake = _log_density(away, noise**2).logsumexp(1) - torch.tensor(float(known.shape[1])).log()
        return log_real - log_fake


def _log_density(away: Tensor, variance: Tensor) -> Tensor:
    """[n, m] of two-dimensional Gaussians, at distances [n, m, 2] from their means; variance [n]."""
    variance = variance[:, None]
    return -away.square().sum(-1) / (2 * variance) - (2 * torch.pi * variance).log()
