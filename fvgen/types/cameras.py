"""Cameras, and paths of cameras."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from fvgen.checks import require

if TYPE_CHECKING:
    from typing_extensions import Self


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
