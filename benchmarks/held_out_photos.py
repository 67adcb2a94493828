"""Captures of a benchmark: which of them, their photos, the clips between these that pass held-out ones, and how near
what was drawn comes to those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import make_capture
from fvgen.geometry.trajectory import path_at
from fvgen.metrics import psnr
from fvgen.types import CameraPath, Cameras, Capture


def chosen_captures(folder: Path, only: Sequence[str]) -> list[str]:
    """Names of the captures to run.

    Raises:
        InputError: there are none, or one has no photos to train on or none held out.
    """
    there = sorted(path.parent.name for path in folder.glob("*/transforms.json"))
    require(
        len(there) > 0, "--captures", "be a folder of captures, each with a transforms.json", folder, "Check the path."
    )
    unknown = sorted(set(only) - set(there))
    require(not unknown, "--only", f"name captures out of {', '.join(there)}", ", ".join(unknown), "Check the names.")
    names = [name for name in there if not only or name in only]
    for name in names:
        files = read_capture(folder / name)
        require(
            len(files.split("test")) > 0,
            f"capture {name}",
            "hold photos back in test_filenames",
            "none",
            "Name some there, or leave the capture out with --only.",
        )
    return names


def train_and_test(folder: Path, long_side: int) -> tuple[Capture, Capture]:
    """A capture's photos to start from and those held out, all at one working size."""
    files = read_capture(folder)
    train, test = list(files.split("train")), list(files.split("test"))
    sparse = None if files.points is None else replace(files.points, xyz=files.points.xyz.float())
    frames = [files.frames[i] for i in (*train, *test)]
    whole = make_capture(frames, long_side, sparse=sparse, depth_unit=files.depth_unit)
    return whole[: len(train)], whole[len(train) :]


def held_out_clips(train: Capture, test: Capture) -> list[tuple[CameraPath, list[int]]]:
    """Clips that start and end with a train photo, and the held-out photos that stand between, in their order."""
    at = path_at(train.cameras, test.cameras)
    clips = []
    for first, last in sorted({(int(a), int(b)) for a, b in at.ends}):
        members = [i for i, ends in enumerate(at.ends.tolist()) if ends == [first, last]]
        members.sort(key=lambda i: float(at.position[i]))
        cameras = [train.cameras[first], test.cameras[members], train.cameras[last]]
        joined = Cameras(
            torch.cat([c.c2w for c in cameras]),
            torch.cat([c.K for c in cameras]),
            test.cameras.height,
            test.cameras.width,
        )
        photo = torch.full((len(joined),), -1, dtype=torch.int64)
        photo[0], photo[-1] = first, last
        position = torch.cat([torch.zeros(1), at.position[members], torch.ones(1)])
        ends = torch.tensor([[first, last]]).expand(len(joined), 2)
        clips.append((CameraPath(joined, ends, position, photo), members))
    return clips


def mean_psnr(pictures: Tensor, photos: Tensor, where: Tensor) -> float | None:
    """Mean over the frames that have such pixels; [F, 3, H, W] twice and bool [F, 1, H, W]."""
    pairs = zip(pictures, photos, where, strict=True)
    return known_mean([float(psnr(picture, photo, mask)) for picture, photo, mask in pairs if mask.any()])


def sharpness(pictures: Tensor, photos: Tensor) -> float:
    """Gradient energy (mean squared difference of neighbouring pixels) over that of the photos; [F, 3, H, W] twice."""
    drawn, real = (float(x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()) for x in (pictures, photos))
    return drawn / max(real, 1e-12)


def known_mean(values: Sequence[float | None]) -> float | None:
    """Of those that are known; None, JSON's null, where none is: a capture may have no holes."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
