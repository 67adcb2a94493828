"""Frozen records that cross the borders between packages.

Letters used in every shape: V photos, F frames of a path, P points, N Gaussians, C cameras, H and W pixels. Images are
``[.., 3, H, W]`` in [0, 1]. Cameras use OpenCV axes (x right, y down, z forward); pixel centres lie at +0.5. Depth is
measured along z in scene units, and 0 means "unknown".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require

if TYPE_CHECKING:
    from typing_extensions import Self

Progress = Callable[[int, int, str], None]
"""``progress(done, total, what)``: how work over two seconds reports how far it is. Numerics never print."""


def no_progress(done: int, total: int, what: str) -> None:
    """A `Progress` that says nothing."""


class _TensorRecord:
    """Moves every tensor of a frozen dataclass at once."""

    def to(self, *args, **kwargs) -> Self:
        """The same record with each tensor (and nested record) passed through ``.to(*args, **kwargs)``."""
        moved = {}
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if isinstance(value, (Tensor, _TensorRecord)):
                moved[field.name] = value.to(*args, **kwargs)
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class Cameras(_TensorRecord):
    """Pinhole cameras that share one image size."""

    c2w: Tensor
    """[C, 4, 4] camera-to-world, OpenCV axes."""
    K: Tensor
    """[C, 3, 3] intrinsics in pixels; the centre of the top left pixel is (0.5, 0.5)."""
    height: int
    width: int

    def __post_init__(self) -> None:
        require(
            self.c2w.ndim == 3 and self.c2w.shape[1:] == (4, 4),
            "c2w",
            "have shape [C, 4, 4]",
            tuple(self.c2w.shape),
            "Stack one 4x4 matrix per camera.",
        )
        require(
            self.K.shape == (len(self.c2w), 3, 3),
            "K",
            f"have shape [{len(self.c2w)}, 3, 3]",
            tuple(self.K.shape),
            "Give one 3x3 matrix per camera.",
        )

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Cameras:
        """The chosen cameras, always as a batch: an int gives a batch of one."""
        if isinstance(index, int):
            index = [index]
        return Cameras(self.c2w[index], self.K[index], self.height, self.width)

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
class PointCloud(_TensorRecord):
    """Coloured points."""

    xyz: Tensor
    """[P, 3]"""
    rgb: Tensor
    """[P, 3] in [0, 1]"""
    confidence: Tensor
    """[P] in [0, 1]"""

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True)
class Capture(_TensorRecord):
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


@dataclass(frozen=True)
class SceneGeometry(_TensorRecord):
    """What a geometry provider returns."""

    cameras: Cameras
    points: PointCloud
    """The fused cloud: every point passed the filters."""
    depths: Tensor
    """[V, H, W] filtered depth per photo, 0 where the filters left nothing."""
    confidences: Tensor
    """[V, H, W] in [0, 1]; 0 exactly where depth is 0."""


@dataclass(frozen=True)
class CameraPath(_TensorRecord):
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


@dataclass(frozen=True)
class PointRender(_TensorRecord):
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
class Conditions(_TensorRecord):
    """What a video network is given of B clips."""

    render_latents: Tensor
    """[B, F, C, h, w] encoded point renders, photos where a frame is a photo"""
    tokens: Tensor
    """[B, N, D] for cross-attention: text, then image"""
    fps: Tensor
    """[B] int64 frame rate label"""
    unconditional_tokens: Tensor | None = None
    """[B, N, D] tokens of an empty text and a grey image; only guidance needs them"""

    def unconditional(self) -> Conditions:
        """The twin that guidance steers away from: other tokens, the same renders (they are never dropped)."""
        if self.unconditional_tokens is None:
            next_step = "Encode them, or use a guidance scale of 1."
            raise InputError(complaint("unconditional_tokens", "be given for guidance", None, next_step))
        return replace(self, tokens=self.unconditional_tokens, unconditional_tokens=None)

    def __len__(self) -> int:
        return len(self.render_latents)


@dataclass(frozen=True)
class TrainBatch(_TensorRecord):
    """B real clips, as a trainer sees them: no pixels, no files."""

    latents: Tensor
    """[B, F, C, h, w] clean latents z, as the codec gives them"""
    conditions: Conditions
    """of the same clips; ``render_latents`` may have other channels than ``latents``"""

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class GeneratedViews(_TensorRecord):
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
