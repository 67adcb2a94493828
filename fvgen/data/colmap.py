"""Reader of COLMAP models, wherever COLMAP and the tools around it leave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap_files import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    model_files,
    read_cameras,
    read_images,
    read_points,
)
from fvgen.data.colmap_places import ColmapModels, photos_folder
from fvgen.data.colmap_positions import agreeing_positions
from fvgen.data.file_places import PHOTO_FOLDERS, FilePlaces
from fvgen.data.lenses import SPLIT_PANORAMA, negligible, undistort
from fvgen.data.photos import copy_size
from fvgen.data.split_names import SplitNames
from fvgen.data.text_files import read_text
from fvgen.geometry.points import read_ply
from fvgen.types import PointCloud

_FOCALS = {"SIMPLE_PINHOLE": 1, "PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 1, "OPENCV": 2, "FULL_OPENCV": 2}
"""How many focal lengths a camera model's parameters begin with; the principal point and k1 k2 p1 p2 k3 .. follow."""


@dataclass(frozen=True)
class _Model:
    """A model and the photos that it speaks of."""

    capture: Path
    folder: Path
    images: list[ColmapImage]
    photos: Path
    """what the images' names are relative to"""
    count: int
    """how many of them are there"""


def read_colmap(reconstructions: Sequence[ColmapModels], notes: CaptureNotes) -> CaptureFiles:
    """The photos that a COLMAP model gave a pose: of the likeliest reconstruction that has its photos, the largest
    model. Where only smaller copies of the photos are there (``images_4`` beside ``sparse``), the intrinsics are made
    to fit them. ``train_list.txt``, ``val_list.txt`` and ``test_list.txt`` name the splits, as in Nerfstudio, or
    ``test.txt`` beside the model, as in 3D Gaussian splatting.

    Args:
        reconstructions: as `fvgen.data.colmap_places.find_models` gives them.
        notes: gets what is left out and what was chosen.

    Raises:
        InputError: a file of the model cannot be read.
    """
    model = _choose(reconstructions, notes)
    files = model_files(model.folder)
    assert files is not None
    cameras = read_cameras(files[0])
    overlap = "Run COLMAP on photos that overlap more."
    require(len(model.images) > 0, str(files[1]), "give a photo a pose", "none", overlap)
    places = FilePlaces(model.capture, notes)
    frames: dict[str, CaptureFrame] = {}
    seen: dict[str, np.ndarray] = {}
    for image in sorted(model.images, key=lambda image: image.name):
        name = _name_in_capture(model, image)
        if name in frames:
            twice = complaint("its name", "be given once", "a second pose for it", "Remove one of them.")
            notes.leave_out(f"{name} (again)", InputError(twice))
            continue
        with notes.leaving_out(name):
            frame = frames[name] = _frame(places, model, image, name, cameras)
            seen[name] = image.seen * [*(np.array(frame.size) / cameras[image.camera].size), 1]
    points = _points(model.folder, files[1].suffix)
    placed = tuple(agreeing_positions(list(frames.values()), seen, points, notes))
    cloud = _cloud(model.folder, notes) if points is None else points.cloud
    return CaptureFiles(model.capture, placed, _splits(model, placed, notes), cloud)


def _choose(reconstructions: Sequence[ColmapModels], notes: CaptureNotes) -> _Model:
    """The model to read.

    Raises:
        InputError: all of them are damaged.
    """
    everything = [model for one in reconstructions for model in one.models]
    best: list[_Model] = []
    for one in reconstructions:
        models: list[_Model] = []
        for folder in one.models:
            with notes.leaving_out(f"the model {folder}"):
                models.append(_with_photos(one.capture, folder, everything))
        models.sort(key=lambda model: -model.count)  # the first of equals stays first
        best = models if not best or (models and models[0].count >= 2) else best
        if best and best[0].count >= 2:
            break
    if not best:
        raise next(iter(notes.left_out.values()))
    chosen, *others = best
    if others:
        smaller = ", ".join(f"{model.folder.name} with {model.count}" for model in others)
        read = f"{chosen.folder} with {chosen.count} photos is read, the largest"
        notes.add(f"COLMAP made several models: {read}; not {smaller}.")
    if all((chosen.folder / f"images.{kind}").is_file() for kind in ("bin", "txt")):
        notes.add(f"{chosen.folder} holds .bin and .txt files: .bin is read, as COLMAP does.")
    return chosen


def _with_photos(capture: Path, folder: Path, everything: Sequence[Path]) -> _Model:
    files = model_files(folder)
    assert files is not None
    images = read_images(files[1])
    names = [image.name for image in images]
    photos = photos_folder(capture, folder, names, [other for other in everything if other != folder])
    places = FilePlaces(photos, CaptureNotes())
    return _Model(capture, folder, images, photos, sum(places.holds(name) for name in names))


def _name_in_capture(model: _Model, image: ColmapImage) -> str:
    """Path of a photo in the capture; of smaller copies, that of the photo itself. A whole path stays one."""
    if PureWindowsPath(image.name).anchor:
        return image.name
    folder = model.photos.relative_to(model.capture)
    if folder.name in PHOTO_FOLDERS:
        folder = folder.with_name(PHOTO_FOLDERS[0])
    return str(folder / image.name)


def _frame(
    places: FilePlaces, model: _Model, image: ColmapImage, name: str, cameras: dict[int, ColmapCamera]
) -> CaptureFrame:
    """One image of a model. COLMAP's axes and pixel centres are ours."""
    known = "Export the model again, or run COLMAP again."
    require(image.camera in cameras, f"the camera of {name}", "be in the model", image.camera, known)
    require(
        ".." not in PureWindowsPath(image.name).parts,
        "its name",
        "stay inside the capture",
        image.name,
        "Copy it there.",
    )
    camera = cameras[image.camera]
    K, distortion = _lens(camera, name, undistort(model.photos, model.folder))
    photo = places.find_photo(name)
    place = photo.relative_to(places.folder) if photo.is_relative_to(places.folder) else photo
    size = copy_size(photo, place, camera.size)
    K[:2] *= np.array(size)[:, None] / np.array(camera.size)[:, None]
    c2w = np.eye(4)
    c2w[:3, :3] = image.w2c[:3, :3].T
    c2w[:3, 3] = -c2w[:3, :3] @ image.w2c[:3, 3]
    return CaptureFrame(name, photo, c2w, K, size, distortion)


def _lens(camera: ColmapCamera, name: str, cure: str) -> tuple[np.ndarray, tuple[float, ...]]:
    """K [3, 3] for the camera's size, and OpenCV's k1 k2 p1 p2 k3."""
    cure = SPLIT_PANORAMA if camera.model == "EQUIRECTANGULAR" else cure
    require(camera.model in _FOCALS, f"the lens of {name}", f"be one of {', '.join(_FOCALS)}", camera.model, cure)
    focals = _FOCALS[camera.model]
    fx, fy, (cx, cy) = camera.params[0], camera.params[focals - 1], camera.params[focals : focals + 2]
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    k1, k2, p1, p2, k3, *others = [*camera.params[focals + 2 :], *5 * (0.0,)]
    small = all(negligible(coefficient, K, camera.size) for coefficient in others)
    require(small, f"the lens of {name}", "have k4 = k5 = k6 = 0", f"{camera.model} with {others[:3]}", cure)
    return K, (k1, k2, p1, p2, k3)


def _splits(model: _Model, frames: Sequence[CaptureFrame], notes: CaptureNotes) -> dict[str, tuple[int, ...]]:
    """Frame indices of the splits that lists of photo names give."""
    place = {frame.name: i for i, frame in enumerate(frames)}
    photos = SplitNames(_name_in_capture(model, image) for image in model.images)
    splits = {}
    for split in ("train", "val", "test"):
        path = _list_of(split, model)
        if path is not None:
            chosen = photos.find(read_text(path, "surrogateescape").split("\n"), path.name, notes)
            splits[split] = tuple(sorted({place[name] for name in chosen if name in place}))
    return splits


def _list_of(split: str, model: _Model) -> Path | None:
    """The file that lists a split's photos, as Nerfstudio or 3D Gaussian splatting call it."""
    for folder in (model.capture, model.photos.parent, model.folder.parent, model.folder):
        places = FilePlaces(folder, CaptureNotes())
        for name in (f"{split}_list.txt", *([f"{split}.txt"] if folder == model.folder else [])):
            if found := places.alike(name):
                return found[0]
    return None


def _points(model: Path, suffix: str) -> ColmapPoints | None:
    """The model's points; of a file that is missing or empty, those of the other kind that may stand for it."""
    for path in (model / f"points3D{suffix}", model / "points3D.bin", model / "points3D.txt"):
        points = read_points(path) if path.is_file() else None
        if points is not None:
            return points
    return None


def _cloud(model: Path, notes: CaptureNotes) -> PointCloud | None:
    """What other tools leave in place of COLMAP's points."""
    path = model / "points3D.ply"
    if path.is_file():
        return read_ply(path, torch.float64, finite=False)
    notes.without_points(f"none in {model}")
    return None
