"""What placing photos gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fvgen.checks import InputError
from fvgen.poses.camera_groups import KnownCamera
from fvgen.poses.intake import Photo
from fvgen.poses.look import Look
from fvgen.poses.sparse_model import SparseModel
from fvgen.poses.two_view import Pair, VerifiedPair
from fvgen.poses.verdicts import Verdict


@dataclass(frozen=True)
class Matches:
    """What is known of the photos before any pose: the ground for verdicts and pictures."""

    photos: tuple[Photo, ...]
    looks: dict[int, Look]
    """Number of the photo -> its look; photos that were left out at once are missing."""
    pairs: dict[Pair, VerifiedPair]


@dataclass(frozen=True)
class Placement:
    """Photos with poses, and what became of each."""

    matches: Matches
    model: SparseModel
    known: KnownCamera | None
    """Intrinsics that the user gave; the model's lenses are ideal ones then."""
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    """What the user should know; the summary first."""


class PlacementRefusedError(InputError):
    """Fewer than two photos can be placed safely; holds what a picture of the reasons needs."""

    def __init__(self, text: str, matches: Matches, verdicts: Sequence[Verdict]) -> None:
        super().__init__(text)
        self.matches = matches
        self.verdicts = tuple(verdicts)
