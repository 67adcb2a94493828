"""Whether the photos say which focal length they were taken with, or at least do not depend on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fvgen.poses.alignment import pose_difference
from fvgen.poses.mapping import run_mapper
from fvgen.poses.search import Candidate
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.sparse_model import SparseModel
from fvgen.poses.two_view import Pair, VerifiedPair

_FACTORS = (1.3, 2.0)
"""Focal lengths to compare with: so many times longer and shorter."""
_AS_GOOD = 1.05
"""Another focal length explains the photos as well where the error is not larger than this many times."""
_LARGEST_TURN, _LARGEST_MOVE = 3.0, 0.1
"""Poses that another focal length changes by less do not depend on it: degrees, and part of the span."""


def focal_length_matters(
    candidate: Candidate, points: Sequence[np.ndarray], pairs: Mapping[Pair, VerifiedPair]
) -> bool:
    """Whether another focal length explains the matches as well, with clearly other poses.

    Args:
        candidate: the reconstruction found; focal lengths known beforehand are not questioned.
        points: per photo [N, 2] keypoints in the sensor frame.
        pairs: verified matches.
    """
    cameras = candidate.cameras
    if all(cameras.known):
        return False
    found = list(cameras.focal)
    for photo, lens in candidate.model.lenses.items():
        found[cameras.camera_of[photo]] = lens.focal / SENSOR_WIDTH
    for direction in (1, -1):
        for factor in _FACTORS:
            scale = factor**direction
            focal = tuple(f if known else scale * f for f, known in zip(found, cameras.known, strict=True))
            other = run_mapper(points, pairs, replace(cameras, focal=focal, fixed=True))
            if other is None or not _explains_as_well(other, candidate, pairs):
                break
            placed = other.placed
            change = pose_difference([other.c2w[i] for i in placed], [candidate.model.c2w[i] for i in placed])
            if change.degrees > _LARGEST_TURN or change.position > _LARGEST_MOVE:
                return True
    return False


def _explains_as_well(other: SparseModel, candidate: Candidate, pairs: Mapping[Pair, VerifiedPair]) -> bool:
    explained = sum(other.explained(pairs).values())
    return (
        other.placed == candidate.model.placed
        and _AS_GOOD * explained >= candidate.explained
        and other.error <= _AS_GOOD * candidate.model.error
    )
