"""Generated views on disk as Nerfstudio wants them in a dataset."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras

from fvgen.data.transforms_json import read_transforms
from fvgen.geometry.similarity import Similarity
from fvgen_ns.camera_axes import flip_axes, to_nerfstudio


@dataclass(frozen=True)
class GeneratedFrames:
    """Views, and the point clouds that came with them."""

    images: list[Path] = field(default_factory=list)
    cameras: Cameras | None = None
    """In the dataparser's frame; None when there are no views."""
    trust: list[tuple[Path, Path] | None] = field(default_factory=list)
    """Per view its confidence map and coverage mask; None trusts it as a photo."""
    clouds: list[Path] = field(default_factory=list)
    """PLY files in the capture's frame."""
    notes: list[str] = field(default_factory=list)

    @staticmethod
    def nothing(*notes: str) -> GeneratedFrames:
        """No views, no clouds."""
        return GeneratedFrames(notes=list(notes))


def read_generated(folder: Path, similarity: Similarity) -> GeneratedFrames:
    """The generated views of a folder; all images of a dataset that does not say which of them are photos.

    Args:
        folder: Nerfstudio dataset in the capture's frame.
        similarity: from the capture's frame to the dataparser's.

    Raises:
        InputError: the folder cannot be read as a dataset.
    """
    files = read_transforms(folder)
    meta = json.loads((files.folder / "transforms.json").read_text())
    entries = {entry["file_path"]: entry for entry in meta["frames"]}
    frames = [f for f in files.frames if not entries[f.name].get("fvgen", {}).get("photo", False)]
    is_ours = "fvgen" in meta
    clouds = [files.folder / name for name in ("dense.ply", "hole_seeds.ply") if (files.folder / name).is_file()]
    notes = meta["fvgen"]["notes"] if is_ours else []
    if not frames:
        return GeneratedFrames(clouds=clouds if is_ours else [], notes=notes)
    c2w = torch.from_numpy(np.stack([similarity.pose_to_working(f.c2w) for f in frames]))
    return GeneratedFrames(
        images=[f.photo for f in frames],
        cameras=to_nerfstudio(frames, flip_axes(c2w)[:, :3]),
        trust=[_trust(files.folder, entries[f.name]) for f in frames],
        clouds=clouds if is_ours else [],
        notes=notes,
    )


def _trust(folder: Path, entry: dict) -> tuple[Path, Path] | None:
    if "confidence_file_path" not in entry:
        return None
    return folder / entry["confidence_file_path"], folder / entry["covered_file_path"]
