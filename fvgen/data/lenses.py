"""Lenses that can be straightened: OpenCV's k1 k2 p1 p2 k3, and what to do about the others."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

SPLIT_PANORAMA = (
    "Cut it into perspective photos: "
    "ns-process-data images --camera-type equirectangular --data PHOTOS --output-dir CAPTURE"
)
_NEGLIGIBLE = 0.1
"""Pixels that a term of the lens may move the corner of a photo by and still be left away."""


def undistort(photos: str | Path = "IMAGES", model: str | Path = "SPARSE") -> str:
    """The cure for photos that a COLMAP model gives another lens."""
    return (
        f"Undistort it first: colmap image_undistorter --image_path {shlex.quote(str(photos))} "
        f"--input_path {shlex.quote(str(model))} --output_path OUT, "
        "then give --data OUT."
    )


UNDISTORT = f"{undistort()} Without a COLMAP model, export undistorted photos from the tool that made the poses."


def negligible(coefficient: float, K: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a coefficient of the lens moves no pixel visibly, in whatever power of the radius from 3 to 9 it stands.

    Args:
        coefficient: a radial one.
        K: [3, 3]
        size: (width, height)
    """
    focal = max(K[0, 0], K[1, 1])
    corners = np.array([[0, 0], [size[0], 0], [0, size[1]], size]) - K[:2, 2]
    radius = float(np.linalg.norm(corners, axis=1).max()) / min(K[0, 0], K[1, 1])
    return bool(abs(coefficient) * max(radius**3, radius**9) * focal < _NEGLIGIBLE)
