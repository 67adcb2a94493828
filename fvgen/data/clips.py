"""Clips of a training set: frames between photos, cut from posed captures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.clip import Clip
from fvgen.data.capture import CaptureFrame
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import make_capture
from fvgen.geometry.provider import GeometryProvider
from fvgen.types import CameraPath, SceneGeometry

MOST_STRIDE = 4
"""Frames of a clip are at most so many photos of the capture apart."""
_LONGEST_NAME = 150
"""Bytes of a scene's name; what is longer is cut and gets a checksum, for file systems stop at 255."""
_LEAST_COVERAGE = 0.02
"""Share of the two photos' pixels with depth, below which a clip's cloud is of no use."""


@dataclass(frozen=True)
class CaptureScene:
    """Clips of one capture: its photos in the order of their file names, as a walk was taken."""

    folder: Path
    provider: GeometryProvider
    clips_per_scene: int
    frames: int
    height: int
    width: int
    """Width for landscape captures; portrait ones give clips turned on their side."""
    seed: int = 0
    root: Path | None = None
    """Folder that names are relative to."""

    @property
    def name(self) -> str:
        """Name of its shard: its path, in letters that every file system takes."""
        path = self.folder if self.root is None else self.folder.relative_to(self.root)
        if path == Path():
            path = Path(self.folder.resolve().name)
        words = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(path)).strip("_") or "capture"
        if len(words.encode()) <= _LONGEST_NAME:
            return words
        digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
        return f"{words.encode()[:_LONGEST_NAME].decode(errors='ignore')}_{digest}"

    @property
    def count(self) -> int | None:
        """Unknown before its photos are counted and their depth is found."""
        return None

    def clips(self) -> Iterator[tuple[Clip, SceneGeometry]]:
        """Clips of random stride and start, each with geometry from its first and last frame alone.

        Raises:
            InputError: see `fvgen.data.read_capture.read_capture`; or too few photos, or no clip gives a cloud.
        """
        files = read_capture(self.folder, decode=False)
        frames = sorted(files.frames, key=lambda frame: _in_reading_order(frame.name))
        require(
            len(frames) >= self.frames,
            str(self.folder),
            f"have at least {self.frames} photos",
            len(frames),
            "Ask for shorter clips.",
        )
        found = 0
        for number, (start, stride) in enumerate(self._choices(len(frames))):
            chosen = frames[start : start + stride * (self.frames - 1) + 1 : stride]
            clip = self._clip(f"{self.name}_{number:03d}", chosen, files.depth_unit)
            geometry = self.provider.reconstruct(clip.capture)
            if float((geometry.depths > 0).float().mean()) >= _LEAST_COVERAGE:
                found += 1
                yield clip, geometry
        if not found:
            next_step = "Use captures with texture and overlap, or another geometry."
            raise InputError(complaint(str(self.folder), "give a cloud", "empty ones only", next_step))

    def _choices(self, photos: int) -> list[tuple[int, int]]:
        """(first photo, stride) of each clip: a random stride, then a random start, none of them twice."""
        rng = np.random.default_rng([self.seed, *self.name.encode()])
        reach = self.frames - 1
        most = min(MOST_STRIDE, (photos - 1) // reach)
        there_are = sum(photos - stride * reach for stride in range(1, most + 1))
        chosen: dict[tuple[int, int], None] = {}  # a set that keeps its order
        while len(chosen) < min(self.clips_per_scene, there_are):
            stride = int(rng.integers(1, most + 1))
            chosen[int(rng.integers(photos - stride * reach)), stride] = None
        return list(chosen)

    def _clip(self, name: str, frames: list[CaptureFrame], depth_unit: float) -> Clip:
        portrait = frames[0].size[1] > frames[0].size[0]
        height, width = (self.width, self.height) if portrait else (self.height, self.width)
        read = make_capture(frames, _long_side(frames, height, width), depth_unit=depth_unit)
        whole = read.covering(height, width)
        count, ends = len(frames), [0, len(frames) - 1]
        photo = torch.full((count,), -1, dtype=torch.int64)
        photo[ends] = torch.tensor([0, 1])
        path = CameraPath(whole.cameras, torch.tensor([[0, 1]]).expand(count, 2), torch.linspace(0, 1, count), photo)
        return Clip(name, whole[ends], path, whole.photos, photo >= 0)


def _in_reading_order(name: str) -> list[tuple[int, str]]:
    """Sorts ``IMG_9`` before ``IMG_10``, as the camera has counted."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _long_side(frames: list[CaptureFrame], height: int, width: int) -> int:
    """Longest side of the working size that just covers ``height`` x ``width``."""
    w, h = frames[0].size
    scale = max(height / h, width / w)
    require(
        scale <= 1.01, frames[0].name, f"be {width}x{height} pixels or larger", f"{w}x{h}", "Ask for smaller clips."
    )
    return int(np.ceil(scale * max(w, h)))
