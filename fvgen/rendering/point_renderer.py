"""Point clouds seen from cameras: one signature, alternatives by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol

import torch

from fvgen.checks import require
from fvgen.types import Cameras, PointCloud, PointRender

TEACHER_RADIUS = 0.01
"""The radius of the renders that the teacher was trained on, in NDC."""


def radius_of_pixels(pixels: float, height: int, width: int) -> float:
    """The NDC radius that is ``pixels`` wide in a picture: 1 NDC is half the shorter side."""
    return 2 * pixels / min(height, width)


def pixel_radius(radius: float, height: int, width: int) -> float:
    """The inverse of `radius_of_pixels`."""
    return radius * min(height, width) / 2


class PointRenderer(Protocol):
    """Draws each point as a disc of one size in the picture."""

    def render(self, points: PointCloud, cameras: Cameras, radius: float = TEACHER_RADIUS) -> PointRender:
        """The cloud from each of F cameras, on the cameras' device.

        Args:
            points: P points; an empty cloud gives black pictures.
            cameras: F cameras.
            radius: of a disc, in NDC (half the picture's shorter side is 1).

        Raises:
            InputError: the radius is not positive.
        """
        ...


def check_radius(radius: float) -> None:
    """Refuse a radius that draws nothing."""
    require(radius > 0, "radius", "be positive", radius, "Give the radius of a point in NDC, such as 0.01.")


def _loader(module: str, class_name: str) -> Callable[[], PointRenderer]:
    return lambda: getattr(import_module(f"fvgen.rendering.{module}"), class_name)()


POINT_RENDERERS: Mapping[str, Callable[[], PointRenderer]] = {
    "teacher": _loader("point_renderer_torch", "TeacherCompositing"),
    "front": _loader("point_renderer_torch", "FrontMean"),
    "pytorch3d": _loader("point_renderer_pytorch3d", "PyTorch3DRenderer"),
}
"""Name -> factory, imported on first use: "teacher" composites as the teacher's training data did, "front" averages the
front surface (crisper, normalised), "pytorch3d" is the teacher's own renderer where PyTorch3D is installed."""


def resolve(name: str) -> PointRenderer:
    """The renderer called ``name``.

    Raises:
        InputError: no such name, or its package is not installed.
    """
    require(
        name in POINT_RENDERERS, "point renderer", f"be one of {', '.join(POINT_RENDERERS)}", repr(name), "Use teacher."
    )
    return POINT_RENDERERS[name]()


def empty_render(cameras: Cameras) -> PointRender:
    """Black pictures that nothing covers."""
    shape = (len(cameras), 1, cameras.height, cameras.width)
    zero = torch.zeros(shape, device=cameras.c2w.device)
    return PointRender(zero.expand(-1, 3, -1, -1).clone(), zero, zero.clone(), zero.clone())
