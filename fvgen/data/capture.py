"""A user's capture: its photos and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fvgen.checks import require
from fvgen.types import PointCloud

Split = Literal["train", "val", "test", "all"]
NO_DISTORTION = (0.0, 0.0, 0.0, 0.0, 0.0)
POSES_FILE = "poses.json"
"""Beside the transforms.json that `fvgen.poses` has written: what became of each photo, and what was made of which."""
DEPTH_UNIT = 1e-3
"""Scene units of one step of a depth file where the capture names no other, as in Nerfstudio."""


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
    distortion: tuple[float, ...] = NO_DISTORTION
    """OpenCV's k1 k2 p1 p2 k3."""
    depth: Path | None = None
    mask: Path | None = None
    """Picture that says where the photo counts, see `fvgen.data.masks.frame_mask`; the photo itself where its
    transparent pixels do not count."""
    exif_ignored: bool = False
    """Whether pose and intrinsics are those of the stored pixels, though an EXIF orientation would turn them and the
    photo's size fits both."""


@dataclass(frozen=True)
class CaptureFiles:
    """What a capture's description says, as far as it can be used."""

    folder: Path
    frames: tuple[CaptureFrame, ...]
    splits: dict[str, tuple[int, ...]]
    """Frame indices of "train", "val" and "test", as far as the capture names them."""
    points: PointCloud | None = None
    """Sparse points in the frame of the cameras, float64."""
    depth_unit: float = DEPTH_UNIT
    """Scene units of one step of a depth file."""
    notes: tuple[str, ...] = ()
    """What the user should know, though work can go on."""

    def split(self, name: Split) -> tuple[int, ...]:
        """Frame indices of a split: all frames for "all", and for "train" where none is named; "val" and "test" stand
        in for each other.

        Raises:
            InputError: there is no such split.
        """
        require(
            name in ("train", "val", "test", "all"), "split", "be train, val, test or all", name, "Name one of them."
        )
        everything = tuple(range(len(self.frames)))
        if name == "all":
            return everything
        if name in self.splits:
            return self.splits[name]
        if name == "train":
            held_out = {i for other in self.splits.values() for i in other}
            return tuple(i for i in everything if i not in held_out)
        return self.splits.get("test" if name == "val" else "val", ())
