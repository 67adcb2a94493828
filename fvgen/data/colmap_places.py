"""Where COLMAP and the tools around it leave a model and its photos."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap_files import model_files
from fvgen.data.file_places import PHOTO_FOLDERS, PHOTO_SUFFIXES, FilePlaces

_WORKSPACES = ("colmap", "", "dense", "dense/*", "colmap/dense", "colmap/dense/*", "undistorted", "distorted")
"""Folders of a capture that hold ``sparse/0``: as ns-process-data, COLMAP, its undistorter and 3D Gaussian splatting's
convert.py leave them."""
_MODELS = ("sparse/*", "sparse", "colmap_sparse/*", "colmap_text")
"""Models in a workspace, of which those of one kind belong to one reconstruction; instant-ngp has names of its own."""
_PARTS = ("sparse", "colmap", "distorted")
"""Folders of a capture that hold models, but no photos of their own."""
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
        path: the capture's folder, or one of those that hold its models, or a model's file.
    """
    if path.name in _FILES:
        path = path.parent
    capture = _capture_of(path)
    if model_files(path) is not None:
        return [ColmapModels(capture, (path,))]
    workspaces = [folder for name in _WORKSPACES for folder in (sorted(path.glob(name)) if name else [path])]
    groups = [sorted(folder.glob(name), key=_number) for folder in workspaces for name in _MODELS]
    groups += [[folder] for folder in workspaces]
    found = (tuple(model for model in group if model_files(model) is not None) for group in groups)
    return [ColmapModels(capture, models) for models in found if models]


def find_models_elsewhere(path: Path) -> list[ColmapModels]:
    """The reconstruction whose models lie below a folder in places that `find_models` does not know; none when there
    are several: those may be of several captures.

    Args:
        path: a folder.
    """
    models = [folder for folder, _ in _below(path) if model_files(folder) is not None] if path.is_dir() else []
    if len({model.parent for model in models}) != 1:
        return []
    return [ColmapModels(_capture_of(path), tuple(sorted(models, key=_number)))]


def _number(model: Path) -> tuple[int, str]:
    """Sorts 10 after 9."""
    return len(model.name), model.name


def _capture_of(path: Path) -> Path:
    """The capture that a folder belongs to, for a user who points at ``sparse/0``."""
    folder = path.resolve() if ".." in path.parts else path.absolute()
    while _is_part(folder):
        folder = folder.parent
    return folder


def _is_part(folder: Path) -> bool:
    """Whether a folder holds models of a capture, but not its photos."""
    if not folder.is_dir() or _has_photos(folder):
        return False
    in_sparse = folder.parent.name == "sparse" and model_files(folder) is not None
    alone = not any(one.is_dir() for one in folder.iterdir()) and _has_photos(folder.parent)
    return folder.name in _PARTS or in_sparse or (model_files(folder) is not None and alone)


def _has_photos(folder: Path) -> bool:
    names = (*PHOTO_FOLDERS, "input")
    return any(one.name.lower() in names or one.suffix.lower() in PHOTO_SUFFIXES for one in folder.iterdir())


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
    for folder, below in _below(capture):
        below[:] = [one for one in below if one.lower() not in _NO_PHOTOS and folder / one not in theirs]
        yield folder


def _below(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders from ``top`` on, hidden ones aside, each with the names of those in it, from which names can be taken."""
    for name, below, _ in os.walk(top, followlinks=True):
        folder = Path(name)
        deep = len(folder.relative_to(top).parts) >= _DEEPEST
        below[:] = [] if deep else sorted(one for one in below if not one.startswith("."))
        yield folder, below
