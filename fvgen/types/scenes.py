"""What cameras see: photos, points, depth, renders and generated views."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from torch import Tensor
from torch.nn import functional

from fvgen.types.cameras import Cameras, Cover, TensorRecord


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
