"""Frames between the photos: one protocol, generators by name.

A generator draws only the frames of a path at which no photo stands; the photos pass through pixel for pixel.
What it draws in a clip depends on nothing outside that clip, so a path can be generated clip by clip
(`fvgen.geometry.trajectory.clips_of`, `CameraPath.part`), stored and continued.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from torch import Tensor

from fvgen.checks import require
from fvgen.generation.confidence import IN_HOLES, view_confidence
from fvgen.rendering.point_renderer import TEACHER_RADIUS, resolve
from fvgen.types import CameraPath, Capture, GeneratedViews, Progress, SceneGeometry, no_progress


class ViewGenerator(Protocol):
    """Draws frames along a path. An implementation is a frozen dataclass that is its own config."""

    def generate(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> GeneratedViews:
        """The path's frames at the capture's working size, on its device.

        Args:
            capture: V photos.
            geometry: of the same photos.
            path: F frames, cameras of the capture's image size.
            seed: equal seeds give equal frames; generators without randomness ignore it.

        Raises:
            InputError: the path's image size is not the capture's.
        """
        ...


@dataclass(frozen=True)
class Drawing:
    """What a generator knows of D drawn frames."""

    rgb: Tensor
    """[D, 3, H, W]"""
    depth: Tensor
    """[D, 1, H, W], 0 where unknown"""
    confidence: Tensor
    """[D, 1, H, W] in [0, 1]"""
    covered: Tensor
    """[D, 1, H, W] bool"""


def blank_drawing(capture: Capture, frames: int) -> Drawing:
    """Room for ``frames`` frames of the capture's size: all zero."""
    none = capture.photos.new_zeros((frames, 1, *capture.photos.shape[2:]))
    return Drawing(none.repeat(1, 3, 1, 1), none, none.clone(), none.bool())


def join_with_photos(capture: Capture, geometry: SceneGeometry, path: CameraPath, drawn: Drawing) -> GeneratedViews:
    """The path's views: photos at their places, the D drawn frames at the others, in path order."""
    check_path(capture, path)
    photo = path.photo.to(capture.photos.device)
    is_photo = photo >= 0
    index = photo[is_photo]
    valid = capture.valid[index, None]
    parts = {
        "rgb": (capture.photos[index], drawn.rgb),
        "depth": (geometry.depths[index, None].to(capture.photos.dtype), drawn.depth),
        "pixel_confidence": (valid.to(capture.photos.dtype), drawn.confidence),
        "covered": (valid, drawn.covered),
    }
    joined = {}
    for name, (of_photos, of_drawn) in parts.items():
        out = of_photos.new_empty((len(photo), *of_photos.shape[1:]))
        out[is_photo], out[~is_photo] = of_photos, of_drawn
        joined[name] = out
    confidence = view_confidence(joined["pixel_confidence"])
    confidence[is_photo] = 1
    return GeneratedViews(cameras=path.cameras, view_confidence=confidence, is_photo=is_photo, **joined)


def check_path(capture: Capture, path: CameraPath) -> None:
    """Refuse a path made for another image size."""
    size, wanted = ((c.width, c.height) for c in (path.cameras, capture.cameras))
    require(
        size == wanted,
        "the path's image size",
        f"be the capture's {wanted[0]}x{wanted[1]}",
        f"{size[0]}x{size[1]}",
        "Make the path from the capture's own cameras.",
    )


@dataclass(frozen=True)
class PhotosOnly:
    """Generates nothing: the photos that stand on the path."""

    def generate(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> GeneratedViews:
        """See `ViewGenerator.generate`; only the frames with a photo come back."""
        here = (path.photo >= 0).nonzero()[:, 0]
        return join_with_photos(capture, geometry, path.part(here), blank_drawing(capture, 0))


@dataclass(frozen=True)
class PointViews:
    """The rendered cloud, exactly as the teacher is shown it: holes are black."""

    def generate(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> GeneratedViews:
        """See `ViewGenerator.generate`."""
        check_path(capture, path)
        renderer, cameras = resolve("teacher"), path.drawn
        out = blank_drawing(capture, len(cameras))
        for i in range(len(cameras)):
            progress(i, len(cameras), "rendering points")
            render = renderer.render(geometry.points, cameras[i], TEACHER_RADIUS)
            out.rgb[i], out.depth[i] = render.rgb[0], render.depth[0]
            # A thin place is darkened by what it lacks in alpha, so its confidence is that much less.
            out.confidence[i] = render.confidence[0].clamp(IN_HOLES, 1)
            out.covered[i] = render.depth[0] > 0
        progress(len(cameras), len(cameras), "rendering points")
        return join_with_photos(capture, geometry, path, out)


def _loader(module: str, class_name: str, **preset: Any) -> Callable[..., ViewGenerator]:
    return lambda **settings: getattr(import_module(f"fvgen.generation.{module}"), class_name)(**preset, **settings)


VIEW_GENERATORS: Mapping[str, Callable[..., ViewGenerator]] = {
    "none": PhotosOnly,
    "points": PointViews,
    "warp": _loader("warp", "WarpViews"),
    "student": _loader("diffusion_views", "DiffusionViews", kind="student"),
    "teacher": _loader("diffusion_views", "DiffusionViews", kind="teacher"),
}
"""Name -> factory, which takes the fields of the generator's dataclass; each is imported on first use. Those that need
a model are in `fvgen.models.find.NEEDS_MODEL`."""
