"""Frozen records that cross the borders between packages.

Letters used in every shape: V photos, F frames of a path, P points, N Gaussians, C cameras, H and W pixels. Images are
``[.., 3, H, W]`` in [0, 1]. Cameras use OpenCV axes (x right, y down, z forward); pixel centres lie at +0.5. Depth is
measured along z in scene units, and 0 means "unknown".
"""

from __future__ import annotations

from collections.abc import Callable

from fvgen.types.cameras import CameraPath, Cameras, Cover, TensorRecord
from fvgen.types.scenes import Capture, GeneratedViews, PointCloud, PointRender, SceneGeometry

__all__ = [
    "CameraPath",
    "Cameras",
    "Capture",
    "Cover",
    "GeneratedViews",
    "PointCloud",
    "PointRender",
    "Progress",
    "SceneGeometry",
    "TensorRecord",
    "no_progress",
]

Progress = Callable[[int, int, str], None]
"""``progress(done, total, what)``: how work over two seconds reports how far it is. Numerics never print."""


def no_progress(done: int, total: int, what: str) -> None:
    """A `Progress` that says nothing."""
