"""Frozen records that cross the borders between packages.

Letters used in every shape: V photos, F frames of a path, P points, N Gaussians, C cameras, H and W pixels. Images are
``[.., 3, H, W]`` in [0, 1]. Cameras use OpenCV axes (x right, y down, z forward); pixel centres lie at +0.5. Depth is
measured along z in scene units, and 0 means "unknown".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.checks import require

if TYPE_CHECKING:
    from typing_extensions import Self

Progress = Callable[[int, int, str], None]
"""``progress(done, total, what)``: how work over two seconds reports how far it is. Numerics never print."""


def no_progress(done: int, total: int, what: str) -> None:
    """A `Progress` that says nothing."""


class TensorRecord:
    """Moves every tensor of a frozen dataclass at once."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same record with each tensor (and nested record) passed through ``.to(*args, **kwargs)``."""
        moved = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, TensorRecord)):
                moved[field.name] = value.to(*args, **kwargs)
        return replace(self, **moved)  # type: ignore[type-var]


class Cover(NamedTuple):
    """How an image comes to another shape: scaled to ``height`` x ``width``, which cover it, and cropped."""

    height: int
    width: int
    top: int
    """First row that is kept."""
    left: int
    """First column that is kept."""

    @classmethod
    def of(cls, size: tuple[int, int], wanted: tuple[int, int]) -> Cover:
        """From (height, width) to another: the smallest scale that covers it, cropped at the centre."""
        scale = max(wanted[0] / size[0], wanted[1] / size[1])
        height, width = (max(round(scale * old), new) for old, new in zip(size, wanted, strict=True))
        return cls(height, width, (height - wanted[0]) // 2, (width - wanted[1]) // 2)


@dataclass(frozen=True)
class Cameras(TensorRecord):
    """Pinhole cameras that share one image size."""

    c2w: Tensor
    """[C, 4, 4] camera-to-world, OpenCV axes."""
    K: Tensor
    """[C, 3, 3] intrinsics in pixels; the centre of the top left pixel is (0.5, 0.5)."""
    height: int
    width: int

    def __post_init__(self) -> None:
        poses, intrinsics = tuple(self.c2w.shape), tuple(self.K.shape)
        require(poses[1:] == (4, 4), "c2w", "have shape [C, 4, 4]", poses, "Stack one 4x4 matrix per camera.")
        expected = (poses[0], 3, 3)
        require(
            intrinsics == expected, "K", f"have shape {list(expected)}", intrinsics, "Give one 3x3 matrix per camera."
        )

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Cameras:
        """The chosen cameras, always as a batch: an int gives a batch of one."""
        if isinstance(index, int):
            index = [index]
        return Cameras(self.c2w[index], self.K[index], self.height, self.width)

    def size_within(self, longest: int) -> tuple[int, int]:
        """(height, width) shrunk, if need be, so that the longer side has ``longest`` pixels."""
        scale = min(1.0, longest / max(self.height, self.width))
        return max(round(self.height * scale), 1), max(round(self.width * scale), 1)

    def resized(self, height: int, width: int) -> Cameras:
        """The same cameras for images resized to ``height`` x ``width``; pixel centres at +0.5 make K only scale.

        Raises:
            InputError: the size is not positive.
        """
        require(
            height > 0 and width > 0, "image size", "be positive", f"{width}x{height}", "Ask for 1x1 pixels or more."
        )
        scale = torch.tensor([width / self.width, height / self.height, 1.0], dtype=torch.float64)
        K = (self.K.double() * scale.to(self.K.device)[:, None]).to(self.K.dtype)
        return Cameras(self.c2w, K, height, width)

    def cropped(self, top: int, left: int, height: int, width: int) -> Cameras:
        """The same cameras for the part of the image that starts at row ``top``, column ``left``.

        Raises:
            InputError: the part is empty or reaches out of the image.
        """
        inside = top >= 0 and left >= 0 and top + height <= self.height and left + width <= self.width
        require(
            inside and height > 0 and width > 0,
            "the crop",
            f"lie within the {self.width}x{self.height} image",
            f"{width}x{height} pixels from column {left}, row {top}",
            "Choose a smaller part.",
        )
        K = self.K.clone()
        K[:, 0, 2] -= left
        K[:, 1, 2] -= top
        return Cameras(self.c2w, K, height, width)

    def covering(self, height: int, width: int) -> Cameras:
        """The same cameras for images that are scaled to cover ``height`` x ``width`` and cropped at the centre."""
        cover = Cover.of((self.height, self.width), (height, width))
        return self.resized(cover.height, cover.width).cropped(cover.top, cover.left, height, width)

    @property
    def w2c(self) -> Tensor:
        """[C, 4, 4] world-to-camera, from the rigid inverse (no matrix inversion, so exact for rotations)."""
        rotation_t = self.c2w[:, :3, :3].transpose(1, 2)
        out = torch.zeros_like(self.c2w)
        out[:, :3, :3] = rotation_t
        out[:, :3, 3] = -(rotation_t @ self.c2w[:, :3, 3:])[..., 0]
        out[:, 3, 3] = 1
        return out

    @property
    def positions(self) -> Tensor:
        """[C, 3] camera centres in the world."""
        return self.c2w[:, :3, 3]


@dataclass(frozen=True)
class PointCloud(TensorRecord):
    """Coloured points."""

    xyz: Tensor
    """[P, 3]"""
    rgb: Tensor
    """[P, 3] in [0, 1]"""
    confidence: Tensor
    """[P] in [0, 1]"""

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, chosen: Tensor) -> PointCloud:
        """The points of a mask [P] or of indices."""
        return PointCloud(self.xyz[chosen], self.rgb[chosen], self.confidence[chosen])


@dataclass(frozen=True)
class Capture(TensorRecord):
    """What geometry starts from: a user's photos at one working size, with all that came along with them."""

    photos: Tensor
    """[V, 3, H, W]"""
    cameras: Cameras
    valid: Tensor
    """[V, H, W] bool: False where a photo has no pixel (undistorted border, transparent background)."""
    sparse: PointCloud | None = None
    """Structure-from-motion points, when the capture has them."""
    depths: Tensor | None = None
    """[V, H, W] measured depth, 0 where unknown, when the capture has it."""

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Capture:
        """The chosen photos with what belongs to each, always as a batch; the sparse points stay."""
        if isinstance(index, int):
            index = [index]
        return replace(
            self,
            photos=self.photos[index],
            cameras=self.cameras[index],
            valid=self.valid[index],
            depths=None if self.depths is None else self.depths[index],
        )

    def resized(self, height: int, width: int, mode: Literal["area", "bilinear"] = "area") -> Capture:
        """The capture at another size; masks and depth by nearest pixel, as a mean over a silhouette lies nowhere.

        Args:
            height: H of the result.
            width: W of the result.
            mode: how photos are resampled: means over areas, for much smaller sizes, or antialiased bilinear.
        """
        photos, size = self.photos, (height, width)
        if mode == "area":
            photos = functional.interpolate(photos, size, mode=mode)
        elif photos.shape[2:] != size:
            photos = functional.interpolate(photos, size, mode=mode, antialias=True, align_corners=False).clamp(0, 1)
        return replace(
            self,
            photos=photos,
            cameras=self.cameras.resized(height, width),
            valid=_nearest(self.valid, size) > 0.5,
            depths=None if self.depths is None else _nearest(self.depths, size),
        )

    def covering(self, height: int, width: int) -> Capture:
        """The capture scaled (antialiased bilinear) to cover ``height`` x ``width``, and cropped at the centre."""
        cover = Cover.of((self.cameras.height, self.cameras.width), (height, width))
        whole = self.resized(cover.height, cover.width, "bilinear")
        window = (..., slice(cover.top, cover.top + height), slice(cover.left, cover.left + width))
        return replace(
            whole,
            photos=whole.photos[window].contiguous(),
            cameras=self.cameras.covering(height, width),
            valid=whole.valid[window],
            depths=None if whole.depths is None else whole.depths[window],
        )


@dataclass(frozen=True)
class SceneGeometry(TensorRecord):
    """What a geometry provider returns."""

    cameras: Cameras
    points: PointCloud
    """The fused cloud: every point passed the filters."""
    depths: Tensor
    """[V, H, W] filtered depth per photo, 0 where the filters left nothing."""
    confidences: Tensor
    """[V, H, W] in [0, 1]; 0 exactly where depth is 0."""
    background: PointCloud | None = None
    """Points, one in each cell of a coarse grid, of what the cloud leaves empty (`fvgen.geometry.background`)."""

    def resized(self, height: int, width: int) -> SceneGeometry:
        """The geometry of photos at another size, by nearest pixel; the points stay."""
        size = (height, width)
        depths, confidences = _nearest(self.depths, size), _nearest(self.confidences, size)
        return replace(self, cameras=self.cameras.resized(height, width), depths=depths, confidences=confidences)


@dataclass(frozen=True)
class CameraPath(TensorRecord):
    """Cameras along a path through the photos."""

    cameras: Cameras
    """F cameras."""
    ends: Tensor
    """[F, 2] int64: the two photos whose clip the frame belongs to (start, end)."""
    position: Tensor
    """[F] in [0, 1]: where between them; 0 is the start photo, 1 the end photo."""
    photo: Tensor
    """[F] int64: the photo that stands exactly here, or -1 for a frame to be generated."""

    def __len__(self) -> int:
        return len(self.cameras)

    def part(self, frames: Tensor) -> CameraPath:
        """The given frames [L] (int64) alone, in that order."""
        return CameraPath(
            self.cameras[frames.to(self.cameras.c2w.device)],
            self.ends[frames.to(self.ends.device)],
            self.position[frames.to(self.position.device)],
            self.photo[frames.to(self.photo.device)],
        )

    @property
    def drawn(self) -> Cameras:
        """The cameras of the D frames at which no photo stands."""
        return self.cameras[self.photo.to(self.cameras.c2w.device) < 0]


@dataclass(frozen=True)
class PointRender(TensorRecord):
    """A point cloud seen from F cameras."""

    rgb: Tensor
    """[F, 3, H, W], black where nothing is covered"""
    alpha: Tensor
    """[F, 1, H, W] in [0, 1]"""
    depth: Tensor
    """[F, 1, H, W] of the nearest point, 0 where nothing is covered"""
    confidence: Tensor
    """[F, 1, H, W] of the points, blended like their colour"""

    def __getitem__(self, index: int) -> PointRender:
        """One frame, as a batch of one that shares its memory."""
        at = slice(index, index + 1)
        return PointRender(self.rgb[at], self.alpha[at], self.depth[at], self.confidence[at])


@dataclass(frozen=True)
class GeneratedViews(TensorRecord):
    """Frames along a path, as a generator returns them and as the cache folder holds them."""

    cameras: Cameras
    rgb: Tensor
    """[F, 3, H, W]"""
    depth: Tensor
    """[F, 1, H, W], 0 where unknown"""
    pixel_confidence: Tensor
    """[F, 1, H, W] in [0, 1]"""
    view_confidence: Tensor
    """[F] in [0, 1]"""
    is_photo: Tensor
    """[F] bool: True where the frame is one of the user's photos, untouched"""
    covered: Tensor
    """[F, 1, H, W] bool: True where the point cloud was seen, False in the holes that the generator filled"""

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: int | Tensor) -> GeneratedViews:
        """One frame, as a batch of one that shares its memory; or the frames of a mask [F]."""
        at = slice(index, index + 1) if isinstance(index, int) else index
        parts = {one.name: getattr(self, one.name)[at] for one in fields(self)}
        return GeneratedViews(**parts)


def _nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[V, H, W] maps at another size, each pixel one of theirs."""
    return functional.interpolate(maps[:, None].float(), size, mode="nearest-exact")[:, 0]
