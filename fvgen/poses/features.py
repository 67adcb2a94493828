"""Keypoints and their matches by name: learned ones (ALIKED with LightGlue), or SIFT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

MatcherName = Literal["aliked", "sift"]


@dataclass(frozen=True)
class Features:
    """What a matcher sees of one photo."""

    xy: np.ndarray
    """[N, 2] float64 keypoints in pixels of the upright photo, pixel centres at +0.5."""
    descriptors: Any
    """Whatever the matcher compares; only the matcher that made it reads it."""

    def __len__(self) -> int:
        return len(self.xy)


class Matcher(Protocol):
    """Finds keypoints and compares those of two photos."""

    name: MatcherName
    parallel: bool
    """Whether several threads may use it at once."""

    def extract(self, photo: np.ndarray) -> Features:
        """Keypoints of an upright photo [H, W, 3] uint8."""

    def match(self, first: Features, second: Features) -> np.ndarray:
        """[M, 2] int64 keypoints of the first and of the second photo that show the same."""


def _aliked() -> Matcher:
    from fvgen.poses.features_aliked import AlikedMatcher

    return AlikedMatcher()


def _sift() -> Matcher:
    from fvgen.poses.features_sift import SiftMatcher

    return SiftMatcher()


MATCHERS: dict[MatcherName, Callable[[], Matcher]] = {"aliked": _aliked, "sift": _sift}


def default_matcher() -> MatcherName:
    """``aliked`` where its packages are installed, else ``sift``."""
    from fvgen.poses.features_aliked import missing_packages

    return "sift" if missing_packages() else "aliked"
