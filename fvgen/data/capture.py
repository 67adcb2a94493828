"""A user's capture: its description read and checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fvgen.checks import InputError, require
from fvgen.data.photos import check_photo_size, read_photo
from fvgen.geometry.cameras import check_cameras
from fvgen.types import Cameras


@dataclass(frozen=True)
class CaptureFrame:
    """One photo of a capture and where it was taken."""

    name: str
    """File path inside the capture."""
    photo: Path
    c2w: np.ndarray
    """[4, 4] camera-to-world, OpenCV axes."""
    K: np.ndarray
    """[3, 3] intrinsics in pixels, centres at +0.5."""
    size: tuple[int, int]
    """(width, height)"""
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1 k2 p1 p2 k3."""
    depth: Path | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class CaptureFiles:
    """What a capture's description says."""

    folder: Path
    frames: tuple[CaptureFrame, ...]
    splits: dict[str, tuple[int, ...]]
    """Frame indices of "train", "val" and "test", as far as the capture names them."""
    sparse_ply: Path | None = None
    depth_unit: float = 1e-3
    """Scene units of one step of a depth file."""
    warnings: tuple[str, ...] = field(default=())

    def split(self, name: str) -> tuple[int, ...]:
        """Frame indices of a split: all frames for "all", and for "train" where none is named; "val" and "test" stand
        in for each other."""
        everything = tuple(range(len(self.frames)))
        if name == "all":
            return everything
        if name in self.splits:
            return self.splits[name]
        if name == "train":
            held_out = {i for other in self.splits.values() for i in other}
            return tuple(i for i in everything if i not in held_out)
        return self.splits.get({"val": "test", "test": "val"}[name], ())


def check_frames(frames: Sequence[CaptureFrame], *, decode: bool = True) -> None:
    """Refuse photos and cameras that cannot be used, whatever reader they came from.

    Args:
        frames: the photos that train.
        decode: whether each photo is decoded to the end, which finds truncated files.

    Raises:
        InputError: fewer than two photos, a missing, truncated or wrongly sized photo, a pose that is not a rigid
            motion, two equal poses, a focal length that is not positive.
    """
    require(
        len(frames) >= 2,
        "capture", "have at least 2 photos to train on", len(frames),
        "Take more photos, or fix the split that the capture names.",
    )  # fmt: skip
    for frame in frames:
        for what, value in (("pose", frame.c2w), ("intrinsics", frame.K)):
            require(
                bool(np.isfinite(value).all()),
                f"{what} of {frame.name}", "be finite", value.tolist(), "Remove the frame or register it again.",
            )  # fmt: skip
    c2w = torch.from_numpy(np.stack([f.c2w for f in frames])).double()
    K = torch.from_numpy(np.stack([f.K for f in frames])).double()
    try:
        check_cameras(Cameras(c2w, K, frames[0].size[1], frames[0].size[0]))
    except InputError as error:
        names = ", ".join(f"{i}: {f.name}" for i, f in enumerate(frames))
        raise InputError(f"{error} (Cameras are {names}.)") from error
    for frame in frames:
        check_photo_size(frame.photo, frame.size)
        if decode:
            read_photo(frame.photo, frame.size)
