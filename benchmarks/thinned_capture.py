"""Benchmark copies of a capture: train photos thinned, and the real photos that stand in for a perfect generator."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from fvgen.data.read_capture import read_capture
from fvgen.data.view_thinning import thin_views
from fvgen.geometry.cameras import project
from fvgen.geometry.points import write_ply
from fvgen.types import Cameras, PointCloud

ORACLE_FOLDER = "oracle"
ORACLE_MOST = 20
"""Most real photos in between that the oracle gets."""


def prepare(source: Path, target: Path, views: int | None) -> Path:
    """A copy of a capture for one benchmark, and beside it (in `ORACLE_FOLDER`) its oracle views.

    The oracle trains on photos that are neither trained nor tested on; a capture that has too few of those gives every
    second test photo to the oracle, and then no method is tested on these.

    Args:
        source: the capture.
        target: folder to make.
        views: train photos to keep (`fvgen.data.view_thinning.thin_views`), None for all. Sparse points that fewer than
            two kept photos could have seen are dropped.

    Returns:
        ``target``.
    """
    files = read_capture(source)
    positions = torch.from_numpy(np.stack([f.c2w[:3, 3] for f in files.frames]))
    train, test = list(files.split("train")), list(files.split("test"))
    spare = [i for i in range(len(files.frames)) if i not in {*train, *test}]
    if len(spare) < len(train) - 1:
        spare, test = test[1::2], test[::2]
    if views is not None:
        train = [train[i] for i in thin_views(positions[train], views)]
    oracle = _nearest_to(positions, spare, train)[:ORACLE_MOST]
    _copy(source, target, train, test)
    if files.points is not None:
        _keep_seen_points(target / "sparse_pc.ply", files.points, files, train)
    _copy(source, target.parent / ORACLE_FOLDER / target.name, oracle, [])
    return target


def _nearest_to(positions: torch.Tensor, candidates: list[int], photos: list[int]) -> list[int]:
    """``candidates`` by distance to the nearest of the ``photos``, nearest first, so that strays come last."""
    distance = torch.cdist(positions[candidates], positions[photos]).sort(dim=1).values[:, :2].sum(dim=1)
    return [candidates[i] for i in distance.argsort(stable=True).tolist()]


def _copy(source: Path, target: Path, train: list[int], test: list[int]) -> None:
    """The frames of both lists, photos byte for byte."""
    meta = json.loads((source / "transforms.json").read_text())
    frames = sorted(meta["frames"], key=lambda frame: frame["file_path"])
    kept = [frames[i] for i in [*train, *test]]
    for frame in kept:
        for key in ("file_path", "depth_file_path", "mask_path"):
            if key in frame:
                (target / frame[key]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / frame[key], target / frame[key])
    names = {"train": train, "val": test, "test": test}
    meta |= {"frames": kept, "ply_file_path": "sparse_pc.ply"}
    meta |= {f"{split}_filenames": [frames[i]["file_path"] for i in indices] for split, indices in names.items()}
    (target / "transforms.json").write_text(json.dumps(meta, indent=1))


def _keep_seen_points(path: Path, cloud: PointCloud, files, train: list[int]) -> None:
    frames = [files.frames[i] for i in train]
    seen = torch.zeros(len(cloud), dtype=torch.long)
    for frame in frames:
        width, height = frame.size
        camera = Cameras(torch.from_numpy(frame.c2w)[None], torch.from_numpy(frame.K)[None], height, width)
        uv, z = project(cloud.xyz.double(), camera)
        inside = (uv[0] >= 0).all(dim=1) & (uv[0, :, 0] < width) & (uv[0, :, 1] < height) & (z[0] > 0)
        seen += inside
    keep = seen >= 2
    write_ply(path, PointCloud(cloud.xyz[keep], cloud.rgb[keep], cloud.confidence[keep]))
