"""A reconstruction in plain arrays: cameras, points, and which keypoints see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.two_view import Pair, VerifiedPair


@dataclass(frozen=True)
class Lens:
    """Focal length and radial distortion of a photo, in the sensor frame; the principal point is its middle."""

    focal: float
    """Pixels of the sensor frame."""
    height: float
    """Height of the sensor frame in pixels."""
    k1: float = 0.0
    """OpenCV's first radial coefficient."""

    @property
    def K(self) -> np.ndarray:
        """[3, 3] intrinsics in pixels of the sensor frame."""
        return np.array([[self.focal, 0, SENSOR_WIDTH / 2], [0, self.focal, self.height / 2], [0, 0, 1]])

    def directions(self, xy: np.ndarray) -> np.ndarray:
        """[N, 2] x and y of the rays (x, y, 1) through points [N, 2] of the sensor frame, distortion taken out."""
        if not len(xy):
            return np.zeros((0, 2))
        return cv2.undistortPoints(xy[:, None].astype(np.float64), self.K, np.array([self.k1, 0, 0, 0]))[:, 0]


@dataclass(frozen=True)
class SparseModel:
    """Cameras in the sensor frame and points, in a world of arbitrary scale."""

    c2w: dict[int, np.ndarray]
    """Photo to [4, 4] float64 camera-to-world, OpenCV axes; photos that were not placed are missing."""
    lenses: dict[int, Lens]
    """Photo to its lens."""
    xyz: np.ndarray
    """[P, 3] float64 points."""
    point_of: dict[int, np.ndarray]
    """Photo to [N] int64: the point that each keypoint sees, -1 for none."""
    error: float
    """Mean reprojection error in pixels of the sensor frame."""

    @property
    def placed(self) -> tuple[int, ...]:
        """The photos with a pose."""
        return tuple(sorted(self.c2w))

    def explained(self, pairs: Mapping[Pair, VerifiedPair]) -> dict[Pair, int]:
        """Verified matches that see one point, for each pair of placed photos: what the model has in its favour."""
        counts = {}
        for (i, j), pair in pairs.items():
            if i in self.c2w and j in self.c2w:
                first, second = self.point_of[i][pair.inliers[:, 0]], self.point_of[j][pair.inliers[:, 1]]
                counts[i, j] = int(((first == second) & (first >= 0)).sum())
        return counts

    def triangulation_angle(self) -> float:
        """Median over the points of the widest angle in degrees between two cameras that see it; 0 without points."""
        rays: list[list[np.ndarray]] = [[] for _ in self.xyz]
        for photo, seen in self.point_of.items():
            for point in np.unique(seen[seen >= 0]):
                ray = self.c2w[photo][:3, 3] - self.xyz[point]
                rays[point].append(ray / np.linalg.norm(ray))
        cosines = [np.clip(np.array(ray) @ np.array(ray).T, -1, 1).min() for ray in rays if len(ray) > 1]
        return float(np.degrees(np.arccos(np.median(cosines)))) if cosines else 0.0
