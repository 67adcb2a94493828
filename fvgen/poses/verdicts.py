"""What became of each photo, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fvgen.poses.two_view import Pair, VerifiedPair

STRONG_PAIR = 60
"""Verified matches that tie two photos together. Fifty have been seen between photos of different sides of a thing, all
wrong and yet in agreement with one motion."""
FEW_KEYPOINTS = 150
"""Fewer than this: there is nothing to match."""
_BLURRED = 0.25
"""Sharpness below this part of the median of all photos."""


@dataclass(frozen=True)
class Verdict:
    """Whether a photo has a pose that can be relied on, else why not."""

    name: str
    reason: str = ""
    """Why the photo has no pose; empty for a placed one."""
    agreement: float | None = None
    """Part of the photo that its neighbours confirm; None where it was not compared."""

    @property
    def placed(self) -> bool:
        """Whether the photo has a pose."""
        return not self.reason


def summary(verdicts: Sequence[Verdict]) -> str:
    """``5 of 8 photos placed: a, b, ...; not placed: c, d because ...; e because ...``."""
    placed = [verdict.name for verdict in verdicts if verdict.placed]
    text = f"{len(placed)} of {len(verdicts)} photos placed"
    text += f": {', '.join(placed)}" if placed else ""
    reasons: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.placed:
            reasons.setdefault(verdict.reason, []).append(verdict.name)
    missing = "; ".join(f"{', '.join(names)} because {reason}" for reason, names in reasons.items())
    return text + (f"; not placed: {missing}" if missing else "") + "."


def strong_component(count: int, pairs: Mapping[Pair, int]) -> list[int]:
    """The largest group of photos that pairs of at least `STRONG_PAIR` matches connect; of equally large ones, the one
    with most matches. One photo alone where no pair is strong.

    Args:
        count: photos.
        pairs: matches of each pair.
    """
    group = list(range(count))
    for (i, j), matches in pairs.items():
        if matches >= STRONG_PAIR and group[i] != group[j]:
            group = [group[i] if g == group[j] else g for g in group]

    def worth(name: int) -> tuple[int, int]:
        within = sum(matches for (i, j), matches in pairs.items() if group[i] == group[j] == name)
        return group.count(name), within

    best = max(dict.fromkeys(group), key=worth)
    return [i for i in range(count) if group[i] == best]


def reason_not_connected(
    photo: int,
    keypoints: Mapping[int, int],
    sharpness: Mapping[int, float],
    pairs: Mapping[Pair, VerifiedPair],
    others: list[int],
) -> str:
    """Why a photo is not tied to ``others``, the photos that hang together."""
    shared = {i + j - photo: len(pair.inliers) for (i, j), pair in pairs.items() if photo in (i, j)}
    most = max((count for other, count in shared.items() if other in others), default=0)
    reason = f"it shares {most or 'no'} verified matches with the others ({STRONG_PAIR} are needed)"
    if any(count >= STRONG_PAIR for other, count in shared.items() if other not in others):
        return f"{reason}, but more with a second group: another place wants a folder of its own, or photos in between"
    if keypoints[photo] < FEW_KEYPOINTS:
        return f"it shows little texture, or is blurred ({keypoints[photo]} keypoints)"
    if sharpness[photo] < _BLURRED * float(np.median([*sharpness.values()])):
        return "it is blurred"
    return reason
