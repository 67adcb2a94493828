"""Whether photos were taken from different places: what a turn of the camera alone leaves unexplained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fvgen.poses.mapping import FOCAL_RANGE, MappingCameras
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.two_view import Pair, VerifiedPair
from fvgen.poses.verdicts import STRONG_PAIR

_FOCALS = 24
"""Focal lengths tried where none is known: a wrong one would make a turn look like a step."""
_ROUNDS = 3
"""The rotation is fitted again to the half of the matches that it explains best: wrong matches do not turn it."""


def largest_parallax(
    points: Sequence[np.ndarray], pairs: Mapping[Pair, VerifiedPair], cameras: MappingCameras
) -> float:
    """Over the pairs, the largest median distance between matches and what the best rotation predicts; at the focal
    length that leaves least.

    Args:
        points: per photo [N, 2] keypoints in the sensor frame.
        pairs: verified matches; those of weak pairs are not asked.
        cameras: focal lengths, as far as they are known.

    Returns:
        pixels of the sensor frame: about the keypoints' own error where a camera turned on the spot.
    """
    tried = [1.0] if all(cameras.known) else np.geomspace(*FOCAL_RANGE, _FOCALS)
    least = np.inf
    for focal in tried:
        focals = [f if known else focal for f, known in zip(cameras.focal, cameras.known, strict=True)]
        largest = 0.0
        for (i, j), pair in pairs.items():
            if len(pair.inliers) >= STRONG_PAIR:
                first, second = (
                    _unit_rays(points[photo][pair.inliers[:, side]], cameras, photo, focals)
                    for side, photo in enumerate((i, j))
                )
                pixels = SENSOR_WIDTH * focals[cameras.camera_of[j]]
                largest = max(largest, pixels * float(np.median(_beyond_rotation(first, second))))
        least = min(least, largest)
    return float(least)


def _unit_rays(xy: np.ndarray, cameras: MappingCameras, photo: int, focals: Sequence[float]) -> np.ndarray:
    """[M, 3] rays through points [M, 2] of a photo."""
    camera = cameras.camera_of[photo]
    centred = (xy - [SENSOR_WIDTH / 2, cameras.heights[camera] / 2]) / (SENSOR_WIDTH * focals[camera])
    rays = np.concatenate([centred, np.ones((len(centred), 1))], axis=1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def _beyond_rotation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[M] distances of unit rays [M, 3] after the rotation that brings them together (Kabsch)."""
    kept = np.arange(len(first))
    apart = np.zeros(len(first))
    for _ in range(_ROUNDS):
        u, _, vt = np.linalg.svd(second[kept].T @ first[kept])
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        apart = np.linalg.norm(first @ rotation.T - second, axis=1)
        kept = np.argsort(apart)[: max(3, len(first) // 2)]
    return apart
