"""Where COLMAP and the tools around it leave a model and its photos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap_files import model_files
from fvgen.data.file_places import PHOTO_FOLDERS, FilePlaces

_WORKSPACES = ("colmap", "", "dense", "dense/*", "undistorted", "distorted")
"""Folders of a capture that hold ``sparse/0``: as ns-process-data, COLMAP, its undistorter and 3D Gaussian splatting's
convert.py leave them."""
_FILES = {f"{name}.{kind}" for name in ("cameras", "images", "points3D") for kind in ("bin", "txt")}
_NO_PHOTOS = {"masks", "mask", "depth", "depths", "depth_maps", "stereo", "sparse", "normals", "confidence"}
_DEEPEST = 3
"""Folders below the capture's in which photos are looked for."""
_SAMPLE = 100
"""Photos whose names are looked for in each folder."""


@dataclass(frozen=True)
class ColmapModels:
    """Models of one reconstruction, of which the largest counts."""

    capture: Path
    models: tuple[Path, ...]


def find_models(path: Path) -> list[ColmapModels]:
    """Reconstructions of a capture, the likeliest first; none when it has none.

    Args:
        path: the capture's folder, or a model's own.
    """
    if path.name in _FILES:
        path = path.parent
    if model_files(path) is not None:
        return [ColmapModels(_capture_of(path), (path,))]
    found = []
    for workspace in _WORKSPACES:
        for folder in sorted(path.glob(workspace)) if workspace else [path]:
            numbered = sorted((folder / "sparse").glob("*"), key=lambda model: (len(model.name), model.name))
            for group in (numbered, [folder / "sparse"], [folder]):
                models = tuple(model for model in group if model_files(model) is not None)
                if models:
                    found.append(ColmapModels(path, models))
    return found


def _capture_of(model: Path) -> Path:
    """The capture that a model's folder lies in, for a user who points at ``sparse/0``."""
    folder = model.resolve() if ".." in model.parts else model.absolute()
    if folder.parent.name == "sparse":
        folder = folder.parent
    while folder.name in ("sparse", "colmap", "distorted"):
        folder = folder.parent
    return folder


def photos_folder(capture: Path, model: Path, names: Sequence[str], others: Sequence[Path]) -> Path:
    """The folder that a model's photo names are relative to: where most of them are found, looked for beside the model
    first.

    Args:
        capture: its folder.
        model: the model's folder.
        names: of its photos.
        others: folders of other models: photos beside them are theirs, perhaps undistorted.
    """
    sample = names[:: max(len(names) // _SAMPLE, 1)]
    best, most = capture / "images", 0
    for folder in dict.fromkeys(_photo_folders(capture, model, others)):
        places = FilePlaces(folder, CaptureNotes())
        found = sum(places.holds(name) for name in sample)
        if found > most:
            best, most = folder, found
        if most == len(sample):
            break
    return best


def _photo_folders(capture: Path, model: Path, others: Sequence[Path]) -> Iterator[Path]:
    """Folders that may hold a model's photos, likeliest first."""
    workspaces = [folder for folder in (model, *model.parents) if folder.is_relative_to(capture)]
    usual = ("input", *PHOTO_FOLDERS) if "distorted" in model.parts else (*PHOTO_FOLDERS, "input")
    for workspace in workspaces:
        yield from (workspace / name for name in usual)
    yield from workspaces
    theirs = {other.parent for other in others if other.parent not in workspaces}
    for name, below, _ in os.walk(capture, followlinks=True):
        folder = Path(name)
        below[:] = sorted(
            one
            for one in below
            if not one.startswith(".") and one.lower() not in _NO_PHOTOS and folder / one not in theirs
        )
        yield folder
        if len(folder.relative_to(capture).parts) >= _DEEPEST:
            below.clear()
