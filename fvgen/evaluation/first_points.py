"""First points of a splat from the training photos alone: matches, triangulated at the poses that are given.

What a data set's own reconstruction holds was found with the test photos' help; papers leave those points out, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
import torch

from fvgen.poses.features import MATCHERS, MatcherName, default_matcher
from fvgen.types import PointCloud

_LARGEST_ERROR = 2.0
"""Pixels between a match and the projection of its point, in either photo."""
_SMALLEST_ANGLE = np.radians(1.0)
"""Between the two rays; below it depth is a guess."""


def match_points(
    photos: Sequence[np.ndarray],
    poses: Sequence[np.ndarray],
    intrinsics: Sequence[np.ndarray],
    matcher: MatcherName | None = None,
) -> PointCloud:
    """Points that two photos agree upon.

    Args:
        photos: V photos [H, W, 3] uint8 without lens distortion.
        poses: V camera-to-world matrices [4, 4], OpenCV axes.
        intrinsics: V matrices [3, 3] in pixels.
        matcher: features by name; the best that is installed by default.

    Returns:
        P points; float64 positions, colours of the first photo, confidence 1. None may be found.
    """
    find = MATCHERS[matcher or default_matcher()]()
    features = [find.extract(photo) for photo in photos]
    projections = [K @ np.linalg.inv(pose)[:3] for pose, K in zip(poses, intrinsics, strict=True)]
    found, colours = [], []
    for a, b in combinations(range(len(photos)), 2):
        pairs = find.match(features[a], features[b])
        if len(pairs) == 0:
            continue
        first, second = features[a].xy[pairs[:, 0]], features[b].xy[pairs[:, 1]]
        homogeneous = cv2.triangulatePoints(projections[a], projections[b], first.T, second.T)
        with np.errstate(divide="ignore", invalid="ignore"):
            xyz = (homogeneous[:3] / homogeneous[3]).T
        rays = [
            (xyz - pose[:3, 3]) / np.linalg.norm(xyz - pose[:3, 3], axis=1, keepdims=True)
            for pose in (poses[a], poses[b])
        ]
        good = np.isfinite(xyz).all(axis=1) & (np.einsum("pi,pi->p", *rays) < np.cos(_SMALLEST_ANGLE))
        for place, seen in ((a, first), (b, second)):
            local = np.c_[xyz, np.ones(len(xyz))] @ projections[place].T
            with np.errstate(divide="ignore", invalid="ignore"):
                error = np.linalg.norm(local[:, :2] / local[:, 2:] - seen, axis=1)
            good &= (local[:, 2] > 0) & (error < _LARGEST_ERROR)
        found.append(xyz[good])
        columns, rows = first[good].astype(int).T
        colours.append(photos[a][rows.clip(0, photos[a].shape[0] - 1), columns.clip(0, photos[a].shape[1] - 1)])
    xyz = np.concatenate(found) if found else np.zeros((0, 3))
    rgb = np.concatenate(colours) if colours else np.zeros((0, 3), dtype=np.uint8)
    return PointCloud(torch.from_numpy(xyz), torch.from_numpy(rgb / 255.0), torch.ones(len(xyz), dtype=torch.float64))
