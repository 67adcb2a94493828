"""Signs of a bad run: the discriminator's accuracy, the output's variance, colour and motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

SATURATED = 0.97
"""Accuracy on real and on fake clips at which a discriminator leaves the student no gradient."""
COLLAPSED = 0.3
"""Share of the data's variance, or of its motion, under which the student's output counts as collapsed."""
DRIFTED = 1.0
"""Shift of a channel's mean, in the data's deviations, over which colours count as drifted."""
UNIFORM = 0.02
"""Spread of the weights h(r), as a share of their mean, under which they are the same for all clips."""
PATIENCE = 3
"""Records in a row that must be bad before a warning is given."""


@torch.no_grad()
def clip_statistics(clips: Tensor) -> dict[str, Tensor]:
    """Per-clip figures of latents [B, F, C, h, w], each a mean over the batch, so that batches can be averaged.

    Returns: ``mean`` and ``square`` [C] (first two moments of every channel), ``variance`` [] (mean variance within a
    clip) and ``motion`` [] (mean squared difference between frames that follow each other).
    """
    clips = clips.float()
    motion = (clips[:, 1:] - clips[:, :-1]).square().mean() if clips.shape[1] > 1 else clips.new_zeros(())
    return {
        "mean": clips.mean((0, 1, 3, 4)),
        "square": clips.square().mean((0, 1, 3, 4)),
        "variance": clips.var(dim=(1, 3, 4), unbiased=False).mean(),
        "motion": motion,
    }


def compared_with_data(generated: Mapping[str, Tensor], real: Mapping[str, Tensor]) -> dict[str, float]:
    """Output against data, from their `clip_statistics`: two ratios (1 is right) and a shift (0 is right)."""
    deviation = (real["square"] - real["mean"].square()).clamp(min=1e-12).sqrt()
    drift = ((generated["mean"] - real["mean"]).abs() / deviation).max()
    return {
        "variance_ratio": float(generated["variance"] / real["variance"].clamp(min=1e-12)),
        "motion_ratio": float(generated["motion"] / real["motion"].clamp(min=1e-12)),
        "colour_drift": float(drift),
    }


def accuracies(pooled: Mapping[str, Tensor]) -> dict[str, float]:
    """The discriminator's accuracy from ``logit_real`` and ``logit_fake`` [n], where there are any."""
    rights = {"real": pooled["logit_real"] > 0} if "logit_real" in pooled else {}
    if "logit_fake" in pooled:
        rights["fake"] = pooled["logit_fake"] < 0
    return {f"accuracy_{kind}": float(right.float().mean()) for kind, right in rights.items()}


class Watch:
    """Warns once when the same sign has been bad for `PATIENCE` records in a row, and again after it was good."""

    def __init__(self) -> None:
        self._bad: dict[str, int] = {}

    def warnings(self, record: Mapping[str, float]) -> list[str]:
        """What to warn of, after a record of named figures."""
        signs = dict(_signs(record))
        self._bad = {name: self._bad.get(name, 0) + 1 for name in signs}
        return [text for name, text in signs.items() if self._bad[name] == PATIENCE]


def _signs(record: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    real, fake = record.get("critic/accuracy_real"), record.get("critic/accuracy_fake")
    if real is not None and fake is not None and min(real, fake) >= SATURATED:
        yield (
            "saturated",
            f"The discriminator is saturated: it is right on {real:.0%} of real and {fake:.0%} of fake clips, so the "
            "student learns little from it. Lower the critic's learning rate or its steps, or raise R1.",
        )
    fooled, mean, spread = (record.get(f"student/{name}") for name in ("accuracy_fake", "h_mean", "h_spread"))
    clamped = fooled is not None and fooled >= SATURATED
    uniform = mean is not None and spread is not None and spread < UNIFORM * abs(mean)
    if mean is not None and (clamped or uniform):  # a discriminator alone, without h, is looked at above
        yield (
            "plain",
            "The second stage degenerates to plain DMD: "
            + (f"the discriminator recognises {fooled:.0%} of the student's clips, so that " if clamped else "")
            + "the weights h(r) of all clips are about the same. "
            "Lower the critic's learning rate or its steps, or raise R1.",
        )
    for name, what in (("variance_ratio", "variance"), ("motion_ratio", "motion")):
        ratio = record.get(f"student/{name}")
        if ratio is not None and ratio < COLLAPSED:
            yield (
                name,
                f"The student is collapsing: its output has {ratio:.2f} of the data's {what}. "
                "Lower its learning rate, or go back to an earlier checkpoint.",
            )
    drift = record.get("student/colour_drift")
    if drift is not None and drift > DRIFTED:
        yield (
            "drift",
            f"The student's colours drift: a channel's mean is {drift:.2f} deviations from the data's. "
            "Look at the samples, and check the schedule's base scale against the teacher's.",
        )
