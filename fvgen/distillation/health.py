"""Signs of a bad run: the discriminator's accuracy, the output's variance, colour and motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fvgen.distillation.density_ratio import LOWEST_LOG_RATIO

SATURATED = 0.97
"""Accuracy on real and on fake clips at which a discriminator leaves the student no gradient."""
COLLAPSED = 0.3
"""Share of the data's variance, or of its motion, under which the student's output counts as collapsed."""
DRIFTED = 1.0
"""Shift of a channel's mean, in the data's deviations, over which colours count as drifted."""
UNIFORM = 0.1
"""Spread of the weights h(r), as a share of their mean, under which they are the same for all clips."""
CHANCE_ACCURACY = 0.55
"""The smaller of a discriminator's accuracies on real and fake clips under which it tells them apart by chance."""
CHANCE_LOGIT = 0.3
"""Mean logit, without its sign, under which a discriminator with uniform weights is at chance."""
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
    yield from _discriminator_signs(record)
    yield from _weight_signs(record)
    yield from _output_signs(record)


_STRONGER = "Give it multi-scale features, a weaker R1 and more critic steps, or train the first stage for longer."
_WEAKER = "Lower the critic's learning rate or its steps, or raise R1."


def _discriminator_signs(record: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """A discriminator in training: too good for the student, or no better than a coin."""
    real, fake = record.get("critic/accuracy_real"), record.get("critic/accuracy_fake")
    if real is None or fake is None:
        return
    found = f"it is right on {real:.0%} of real and {fake:.0%} of fake clips"
    if min(real, fake) >= SATURATED:
        text = f"The discriminator is saturated: {found}, so the student learns little from it. {_WEAKER}"
        yield "saturated", text
    elif min(real, fake) < CHANCE_ACCURACY:
        yield "chance", f"The discriminator is at chance: {found}, so the student learns nothing from it. {_STRONGER}"


def _weight_signs(record: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Weights h(r) that are the same for all clips, and which of a discriminator's two failures makes them so.

    Its accuracy on the student's clips does not tell: logits just under 0 are all right, and r is still about 1.
    """
    mean, spread, logit = (record.get(f"student/{name}") for name in ("h_mean", "h_spread", "logit_fake_mean"))
    if mean is None:  # no weights: a discriminator alone is looked at above
        return
    plain = "The second stage degenerates to plain DMD: "
    if logit is not None and logit < LOWEST_LOG_RATIO:
        why = f"the mean logit of the student's clips, {logit:.2f}, lies below the clamp of r at {LOWEST_LOG_RATIO:.2f}"
        yield "clamped", f"{plain}the discriminator is saturated, {why}. {_WEAKER}"
    elif spread is not None and spread < UNIFORM * abs(mean):
        alike = f"the weights h(r) of all clips are about the same, {mean:.2f} +- {spread:.2f}"
        chance = logit is not None and abs(logit) < CHANCE_LOGIT
        because = f"the discriminator is at chance, with a mean logit of {logit:.2f}, and " if chance else ""
        yield "plain", f"{plain}{because}{alike}. {_STRONGER}"


def _output_signs(record: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Output that has lost variance, motion or colour."""
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
