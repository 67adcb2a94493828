"""Where the points of a capture fall in its photos."""

from __future__ import annotations

import cv2
import numpy as np

from fvgen.data.capture import CaptureFrame

_BEYOND = 1.5
"""Corner radii from the middle; a lens's polynomial may fold what lies farther out back into the photo."""


def points_in_photo(frame: CaptureFrame, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The points that a photo could show; what stands before them does not count.

    Args:
        frame: the photo.
        xyz: [P, 3] in the capture's frame, float64.

    Returns:
        their indices [M], their places [M, 2] as shares of the photo's width and height, and their depths [M].
    """
    local = (xyz - frame.c2w[:3, 3]) @ frame.c2w[:3, :3]
    corners = (np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * frame.size - frame.K[:2, 2]) / frame.K[[0, 1], [0, 1]]
    reach = _BEYOND * np.linalg.norm(corners, axis=1).max()
    ahead = np.flatnonzero((local[:, 2] > 0) & (np.linalg.norm(local[:, :2], axis=1) < reach * local[:, 2]))
    if not len(ahead):
        return ahead, np.empty((0, 2)), np.empty(0)
    K = frame.K.astype(np.float64)
    uv, _ = cv2.projectPoints(local[ahead], np.zeros(3), np.zeros(3), K, np.array(frame.distortion))
    places = uv[:, 0] / frame.size
    inside = ((places >= 0) & (places < 1)).all(axis=1)
    return ahead[inside], places[inside], local[ahead[inside], 2]


def pixels_at(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """[M, ...] of an image [H, W, ...] at places [M, 2] that `points_in_photo` gives."""
    column, row = (places * image.shape[1::-1]).astype(int).T
    return image[row, column]
