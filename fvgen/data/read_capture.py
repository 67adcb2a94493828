"""Reads a capture of any kind: the one way from a path to photos with cameras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.blender import find_blender, read_blender
from fvgen.data.capture import POSES_FILE, CaptureFiles, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap import read_colmap
from fvgen.data.colmap_places import find_models, find_models_elsewhere
from fvgen.data.exif_orientation import settle_orientation
from fvgen.data.file_places import PHOTO_SUFFIXES
from fvgen.data.masks import find_masks, visible_points
from fvgen.data.opensfm import find_opensfm, read_opensfm
from fvgen.data.other_tools import not_a_capture
from fvgen.data.polycam import find_polycam, read_polycam
from fvgen.data.transforms_json import find_transforms, read_transforms
from fvgen.data.usable_frames import keep_usable, require_training_photos
from fvgen.files import read_json

_READERS: tuple[tuple[Callable[[Path], Any], Callable[[Any, CaptureNotes], CaptureFiles]], ...] = (
    (find_transforms, read_transforms),
    (find_models, read_colmap),
    (find_blender, read_blender),
    (find_opensfm, read_opensfm),
    (find_polycam, read_polycam),
)
"""What finds a kind of capture, None or empty where it is of another, and what reads it; the first that finds reads."""
_LAST = (find_models_elsewhere, read_colmap)
"""The same for folders of other names: they may be a capture, or hold some."""


def read_capture(path: Path, *, decode: bool = True) -> CaptureFiles:
    """The capture at ``path``, ready to be used: what cannot be used is left out, and a note names it.

    Args:
        path: a folder with ``transforms.json``, a COLMAP model, Blender's ``transforms_train.json``, OpenSfM's
            ``reconstruction.json`` or Polycam's ``keyframes``; or that file, or the model's folder.
        decode: whether photos, masks and depth maps are decoded to the end, which finds truncated ones; otherwise file
            headers are read.

    Raises:
        InputError: no capture, one of a kind that must be converted first, a description that is damaged, or fewer than
            two photos to train on that can be used.
    """
    path = Path(path)
    places = "--data of ns-train, or the line 'data:' in the config.yml that ns-eval, ns-render and ns-export load"
    require(path.exists(), "the path of the capture", "exist", path, f"Check it: {places}.")
    notes = CaptureNotes()
    files = _finite_points(_described(path, notes), notes)
    _note_found_poses(files.folder, notes)
    frames = find_masks(files.folder, files.frames, files.split("train"), notes)
    _note_photos_without_pose(frames, notes)
    frames = settle_orientation(frames, files.points, notes)
    files = keep_usable(replace(files, frames=tuple(frames)), notes, decode=decode)
    require_training_photos(files, notes)
    if files.points is not None:
        points = visible_points(files.points, [files.frames[i] for i in files.split("train")], notes)
        files = replace(files, points=points)
    return replace(files, notes=notes.sentences())


def is_capture(path: Path) -> bool:
    """Whether there is a capture of a kind that `read_capture` reads."""
    return any(find(path) for find, _ in _READERS)


def has_poses(path: Path) -> bool:
    """Whether `read_capture` finds a description of cameras at ``path``, even where no tool calls its folder so."""
    return any(find(path) for find, _ in (*_READERS, _LAST))


def _described(path: Path, notes: CaptureNotes) -> CaptureFiles:
    for find, read in (*_READERS, _LAST):
        found = find(path)
        if found:
            return read(found, notes)
    raise not_a_capture(path)


def _finite_points(files: CaptureFiles, notes: CaptureNotes) -> CaptureFiles:
    """The capture without points at NaN or infinity."""
    if files.points is None:
        return files
    good = torch.isfinite(files.points.xyz.float()).all(dim=1)
    bad = int((~good).sum())
    if not bad:
        return files
    text = complaint("their positions", "be finite", "NaN or infinity", "Export the point cloud again.")
    notes.leave_out(f"{bad} of {len(good)} sparse points", InputError(text))
    return replace(files, points=files.points[good] if good.any() else None)


def _note_photos_without_pose(frames: Sequence[CaptureFrame], notes: CaptureNotes) -> None:
    """Say so where only some of the photos in a folder were given a pose."""
    posed = {PureWindowsPath(name).name.casefold() for name in (*(frame.name for frame in frames), *notes.left_out)}
    posed |= {frame.photo.name.casefold() for frame in frames}
    masks = {frame.mask for frame in frames if frame.mask != frame.photo}
    kinds = {frame.photo.suffix.lower() for frame in frames} & PHOTO_SUFFIXES
    for folder in sorted({frame.photo.parent for frame in frames}):
        files = [path for path in folder.iterdir() if not path.name.startswith(".")]  # as systems leave them behind
        photos = [path.name for path in files if path.suffix.lower() in kinds and path not in masks]
        without = [name for name in photos if name.casefold() not in posed]
        if without:
            with_pose = len(photos) - len(without)
            notes.add(f"{with_pose} of the {len(photos)} photos in {folder} have a pose; the others are not used.")


def _note_found_poses(folder: Path, notes: CaptureNotes) -> None:
    """Hand on what `fvgen.poses` has to say of poses that it has found."""
    found = (read_json(folder / POSES_FILE) or {}).get("notes")
    for note in found if isinstance(found, list) else ():
        notes.add(str(note))
