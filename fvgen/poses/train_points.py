"""Sparse points from some of the photos, so that nothing of the held-out ones gets into a splat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fvgen.poses.placement import Placement

_LARGEST_ERROR = 4.0
"""Pixels of the sensor frame; points that fit worse without the other photos are dropped."""
_ITERATIONS = 5


def triangulate_seen(placement: Placement, photos: Sequence[int]) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
    """The model's points anew, from keypoints of ``photos`` alone.

    Each point is moved by Gauss-Newton steps on its reprojection errors (Hartley & Zisserman, "Multiple View Geometry",
    section 12.3) from where the model has it.

    Args:
        placement: photos with poses.
        photos: those that count.

    Returns:
        [P, 3] float64 points that at least two of the photos see, and for each the (photo, keypoint) that see it.
    """
    views: list[list[tuple[int, int]]] = [[] for _ in placement.model.xyz]
    for photo in photos:
        for keypoint in np.flatnonzero(placement.model.point_of[photo] >= 0):
            views[placement.model.point_of[photo][keypoint]].append((photo, int(keypoint)))
    kept, seen = [], []
    for point, by in enumerate(views):
        if len({photo for photo, _ in by}) < 2:
            continue
        place, error = _refine(placement, placement.model.xyz[point], by)
        if error <= _LARGEST_ERROR:
            kept.append(place)
            seen.append(by)
    return np.array(kept, dtype=np.float64).reshape(-1, 3), seen


def _refine(placement: Placement, start: np.ndarray, by: list[tuple[int, int]]) -> tuple[np.ndarray, float]:
    """A point [3] where its reprojection errors are least, and the largest of them in pixels."""
    model, looks = placement.model, placement.matches.looks
    rotations = np.stack([model.c2w[photo][:3, :3].T for photo, _ in by])
    centres = np.stack([model.c2w[photo][:3, 3] for photo, _ in by])
    targets = np.concatenate(
        [model.lenses[photo].directions(looks[photo].points[[keypoint]]) for photo, keypoint in by]
    )
    focal = np.array([model.lenses[photo].focal for photo, _ in by])
    place, residual = start.astype(np.float64), np.full((len(by), 2), np.inf)
    for step in range(_ITERATIONS + 1):
        local = np.einsum("vij,vj->vi", rotations, place - centres)
        if (local[:, 2] <= 0).any():
            return place, np.inf
        residual = focal[:, None] * (local[:, :2] / local[:, 2:] - targets)
        if step == _ITERATIONS:
            break
        inner = np.zeros((len(by), 2, 3))
        inner[:, 0, 0] = inner[:, 1, 1] = 1 / local[:, 2]
        inner[:, :, 2] = -local[:, :2] / local[:, 2:] ** 2
        jacobian = (focal[:, None, None] * inner @ rotations).reshape(-1, 3)
        place = place - np.linalg.lstsq(jacobian, residual.ravel(), rcond=None)[0]
    return place, float(np.linalg.norm(residual, axis=1).max())
