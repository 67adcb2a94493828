"""Matches of two photos that one motion of the camera explains (geometric verification by pycolmap)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pycolmap

Pair = tuple[int, int]
LEAST_INLIERS = 15
"""Fewer verified matches than this are accidents (COLMAP's default)."""
_LARGEST_ERROR = 4.0
"""Pixels of the sensor frame from the epipolar line."""
SEED = 0
"""Seed of everything random in pycolmap: the same photos give the same poses."""


@dataclass(frozen=True)
class VerifiedPair:
    """What two photos share."""

    matches: int
    """Matches before verification."""
    geometry: pycolmap.TwoViewGeometry
    """Inliers and the matrix that explains them."""
    moved: float
    """Median distance in pixels of the sensor frame that verified matches moved."""

    @property
    def inliers(self) -> np.ndarray:
        """[M, 2] keypoints of the first and the second photo; empty below `LEAST_INLIERS`."""
        return self.geometry.inlier_matches

    @property
    def without_parallax(self) -> bool:
        """Whether a homography explains the matches as well: a plane, or a camera turned on the spot."""
        import pycolmap

        kinds = pycolmap.TwoViewGeometryConfiguration
        flat = (kinds.PLANAR, kinds.PANORAMIC, kinds.PLANAR_OR_PANORAMIC)
        return self.geometry.config in [int(kind) for kind in flat]


def verify(
    points: Sequence[np.ndarray], cameras: Sequence[pycolmap.Camera], matches: Mapping[Pair, np.ndarray]
) -> dict[Pair, VerifiedPair]:
    """The matches that one fundamental matrix, essential matrix or homography explains, for each pair.

    Args:
        points: per photo [N, 2] keypoints in the sensor frame.
        cameras: per photo; those with a prior focal length are verified as calibrated ones.
        matches: [M, 2] keypoints of the first and the second photo of each pair.
    """
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.min_num_inliers = LEAST_INLIERS
    options.ransac.max_error = _LARGEST_ERROR
    options.ransac.random_seed = SEED
    options.detect_watermark = False
    verified = {}
    for (i, j), found in matches.items():
        geometry = pycolmap.TwoViewGeometry()
        if len(found) >= LEAST_INLIERS:
            geometry = pycolmap.estimate_two_view_geometry(
                cameras[i], points[i], cameras[j], points[j], found.astype(np.uint32), options
            )
        kept = geometry.inlier_matches
        moved = np.linalg.norm(points[i][kept[:, 0]] - points[j][kept[:, 1]], axis=1) if len(kept) else np.zeros(1)
        verified[i, j] = VerifiedPair(len(found), geometry, float(np.median(moved)))
    return verified
