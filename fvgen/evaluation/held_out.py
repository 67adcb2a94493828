"""Held-out photos as a generator meets them: the train photos to start from, and the clips that pass the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import make_capture
from fvgen.geometry.trajectory import path_at
from fvgen.types import CameraPath, Cameras, Capture


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
