"""Reader of Nerfstudio's ``transforms.json``, strict about all that would surface later as a bad splat."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import DEPTH_UNIT, CaptureFiles, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.file_places import FilePlaces
from fvgen.data.lenses import SPLIT_PANORAMA, UNDISTORT, negligible
from fvgen.data.photos import copy_size, photo_size
from fvgen.data.split_names import SplitNames
from fvgen.data.text_files import read_text
from fvgen.geometry.points import read_ply
from fvgen.types import PointCloud

_PINHOLE_MODELS = {"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE"}
_RESTORE = "Restore transforms.json or run ns-process-data again."
_NO_K4 = (
    "Export with k1, k2 and k3 alone (RealityCapture's distortion model Brown3), or export undistorted photos from the "
    "tool that made the poses."
)
_FRAME_PATHS = ("file_path", "depth_file_path", "mask_path")
_SPLITS = ("train", "val", "test")


def find_transforms(path: Path) -> Path | None:
    """The ``transforms.json`` that a path means: itself, or the one in that folder."""
    of_others = path.name == "reconstruction.json" or path.name.startswith("transforms_")
    file = path if path.suffix.lower() == ".json" and not of_others else path / "transforms.json"
    return file if file.is_file() else None


def read_transforms(file: Path, notes: CaptureNotes) -> CaptureFiles:
    """The capture that a ``transforms.json`` describes.

    Args:
        file: the description; paths in it are relative to its folder.
        notes: gets what is left out.

    Raises:
        InputError: the description is damaged, or a path in it leads out of its folder by ``..``.
    """
    meta = load_description(file)
    require_frames(meta, file)
    files = described_capture(file.parent, meta, notes)
    return replace(files, points=_points(FilePlaces(file.parent, notes), meta, notes))


def load_description(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: it is no JSON, or no object.
    """
    try:
        meta = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(complaint(str(file), "be valid JSON", f"'{error}'", _RESTORE)) from error
    require(isinstance(meta, dict), str(file), "hold an object", type(meta).__name__, _RESTORE)
    return meta


def require_frames(meta: dict[str, Any], file: Path) -> None:
    """Refuse a description without a list of frames."""
    frames = meta.get("frames")
    rule, next_step = "be a list of at least one frame", "Run ns-process-data again; it found no camera for any photo."
    require(isinstance(frames, list) and len(frames) > 0, f"frames in {file}", rule, frames, next_step)


def described_capture(folder: Path, meta: dict[str, Any], notes: CaptureNotes) -> CaptureFiles:
    """The capture that the content of a ``transforms.json`` in ``folder`` describes, but for its points.

    Raises:
        InputError: as `read_transforms`.
    """
    entries: list[Any] = meta["frames"]
    _refuse_parents(meta, entries)
    places = FilePlaces(folder, notes)
    frames: dict[Path, CaptureFrame] = {}
    for i, entry in enumerate(entries):
        with notes.leaving_out(_item(entry, i)):
            frame = _frame(places, meta, entry, notes)
            file = frame.photo.resolve()
            if file in frames:
                text = complaint("its photo", "have one frame", f"a second one, {frame.name}", "Remove one of them.")
                notes.leave_out(f"frame {i} ({frame.name})", InputError(text))
            frames.setdefault(file, frame)
    found = tuple(sorted(frames.values(), key=lambda frame: frame.name))
    return CaptureFiles(
        folder=folder,
        frames=found,
        splits=_splits(meta, entries, found, notes),
        depth_unit=_depth_unit(meta),
    )


def _item(entry: Any, index: int) -> str:
    """How a note calls a frame."""
    name = entry.get("file_path") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else f"frame {index}"


def _refuse_parents(meta: Mapping[str, Any], entries: list[Any]) -> None:
    """Refuse ``..`` in paths: what it leads to depends on where the capture lies."""
    named = [(key, entry.get(key)) for entry in entries if isinstance(entry, dict) for key in _FRAME_PATHS]
    named += [("ply_file_path", meta.get("ply_file_path"))]
    for split in _SPLITS:
        names = meta.get(f"{split}_filenames")
        named += [(f"{split}_filenames", name) for name in (names if isinstance(names, list) else ())]
    for key, name in named:
        climbs = isinstance(name, str) and ".." in PureWindowsPath(name).parts
        where = f"{key} in transforms.json"
        require(not climbs, where, "stay inside the capture", repr(name), "Copy the file into the capture's folder.")


def _frame(places: FilePlaces, meta: dict[str, Any], entry: Any, notes: CaptureNotes) -> CaptureFrame:
    usable = isinstance(entry, dict) and isinstance(entry.get("file_path"), str) and entry["file_path"] != ""
    require(usable, "a frame in transforms.json", "have a file_path", entry, _RESTORE)
    name = entry["file_path"]
    both = {**meta, **entry}
    _check_model(both, name)
    photo = places.find_photo(name)
    described = _size(both, photo, name)
    K = _intrinsics(both, described, name)
    distortion = _distortion(both, K, described, name)
    place = photo.relative_to(places.folder) if photo.is_relative_to(places.folder) else photo
    size = copy_size(photo, place, described)  # DL3DV-10K: intrinsics of images/, of which only a copy is there
    K[:2] *= np.array(size)[:, None] / np.array(described)[:, None]
    depth = None
    with notes.leaving_out(f"the depth of {name}"):
        depth = _optional(places, entry, "depth_file_path", name)
    mask = _optional(places, entry, "mask_path", name)
    return CaptureFrame(name, photo, _pose(entry, name), K, size, distortion, depth, mask)


def _optional(places: FilePlaces, entry: dict[str, Any], key: str, name: str) -> Path | None:
    value = entry.get(key)
    if value in (None, ""):  # some exporters leave the key there
        return None
    what = f"{key} of {name}"
    require(isinstance(value, str), what, "be a path in the capture", repr(value), _RESTORE)
    return places.find(value, what)


def _check_model(both: dict[str, Any], name: str) -> None:
    """Refuse lenses that no pinhole camera with OpenCV's k1 k2 p1 p2 k3 describes."""
    model = "OPENCV_FISHEYE" if both.get("is_fisheye") else both.get("camera_model", "PINHOLE")
    kind = model.upper() if isinstance(model, str) else ""
    cure = SPLIT_PANORAMA if kind == "EQUIRECTANGULAR" else UNDISTORT
    rule = f"be one of {', '.join(sorted(_PINHOLE_MODELS))}"
    require(kind in _PINHOLE_MODELS, f"camera_model of {name}", rule, model, cure)


def _numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.array([])
    require(
        array.shape == shape,
        what,
        f"be {'x'.join(map(str, shape)) or 'a'} number{'s' if shape else ''}",
        value,
        _RESTORE,
    )
    return array


def _pose(entry: dict[str, Any], name: str) -> np.ndarray:
    """[4, 4] OpenCV camera-to-world; Nerfstudio writes OpenGL axes."""
    matrix = entry.get("transform_matrix")
    if isinstance(matrix, list) and len(matrix) == 3:
        matrix = [*matrix, [0.0, 0.0, 0.0, 1.0]]
    c2w = _numbers(matrix, (4, 4), f"transform_matrix of {name}")
    c2w[:, 1:3] *= -1
    return c2w


def _size(both: dict[str, Any], photo: Path, name: str) -> tuple[int, int]:
    """(width, height) as the description says, else the photo's own."""
    if "w" not in both and "h" not in both:
        return photo_size(photo)
    width, height = _numbers([both.get("w"), both.get("h")], (2,), f"w and h of {name}")
    whole = 0 < width < 1e6 and 0 < height < 1e6 and width == int(width) and height == int(height)
    require(whole, f"w and h of {name}", "be positive whole numbers", (both.get("w"), both.get("h")), _RESTORE)
    return int(width), int(height)


def _intrinsics(both: dict[str, Any], size: tuple[int, int], name: str) -> np.ndarray:
    """[3, 3]; focal lengths may come as angles of view, a missing principal point is the middle."""
    what = f"intrinsics of {name}"
    focal = {}
    for axis, extent in zip("xy", size, strict=True):
        if f"fl_{axis}" in both:
            focal[axis] = float(_numbers(both[f"fl_{axis}"], (), what))
        elif f"camera_angle_{axis}" in both:
            half = 0.5 * float(_numbers(both[f"camera_angle_{axis}"], (), what))
            focal[axis] = 0.5 * extent / math.tan(half) if 0 < half < math.pi / 2 else 0.0
    require(
        "x" in focal,
        what,
        "give fl_x or camera_angle_x",
        "neither",
        "Add the focal length in pixels to transforms.json, or run ns-process-data again.",
    )
    fx, fy = focal["x"], focal.get("y", focal["x"])
    cx, cy = (
        float(_numbers(both.get(key, extent / 2), (), what)) for key, extent in zip(("cx", "cy"), size, strict=True)
    )
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _distortion(both: dict[str, Any], K: np.ndarray, size: tuple[int, int], name: str) -> tuple[float, ...]:
    """OpenCV's k1 k2 p1 p2 k3."""
    if "distortion_params" in both:  # Nerfstudio's order: k1 k2 k3 k4 p1 p2
        values = both["distortion_params"]
    else:
        values = [both.get(key, 0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")]
    k1, k2, k3, k4, p1, p2 = _numbers(values, (6,), f"distortion of {name}")
    others = {"k4": float(k4)} | {
        key: float(_numbers(both.get(key, 0), (), f"{key} of {name}")) for key in ("k5", "k6")
    }
    for key, value in others.items():
        small = value == 0 or negligible(value, K, size)
        require(small, f"distortion {key} of {name}", "be 0 for a perspective camera", value, _NO_K4)
    return float(k1), float(k2), float(p1), float(p2), float(k3)


def _depth_unit(meta: dict[str, Any]) -> float:
    unit = float(_numbers(meta.get("depth_unit_scale_factor", DEPTH_UNIT), (), "depth_unit_scale_factor"))
    require(math.isfinite(unit) and unit > 0, "depth_unit_scale_factor", "be positive", unit, _RESTORE)
    return unit


def _splits(
    meta: dict[str, Any], entries: list[Any], frames: tuple[CaptureFrame, ...], notes: CaptureNotes
) -> dict[str, tuple[int, ...]]:
    """Frame indices of the splits that the description names."""
    place = {frame.name: i for i, frame in enumerate(frames)}
    described = SplitNames(_item(entry, i) for i, entry in enumerate(entries))
    splits: dict[str, tuple[int, ...]] = {}
    for split in _SPLITS:
        key = f"{split}_filenames"
        names = meta.get(key)
        if names is None:
            continue
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        require(is_list, f"{key} in transforms.json", "be a list of file paths", names, _RESTORE)
        chosen = described.find(names, key, notes)
        splits[split] = tuple(sorted({place[name] for name in chosen if name in place}))
    shared = set(splits.get("train", ())) & {i for key in ("val", "test") for i in splits.get(key, ())}
    if shared:
        notes.add(f"{len(shared)} photos are both trained on and held out: held-out figures flatter this capture.")
    return splits


def _points(places: FilePlaces, meta: dict[str, Any], notes: CaptureNotes) -> PointCloud | None:
    """The capture's points, or None and a note when it names none, or a file that is missing or empty.

    Raises:
        InputError: the file is damaged.
    """
    name = meta.get("ply_file_path")
    if name is None:
        notes.without_points("no ply_file_path")
        return None
    require(isinstance(name, str) and name != "", "ply_file_path", "be a path in the capture", repr(name), _RESTORE)
    if not places.holds(name):
        notes.without_points(f"{places.folder / name} is missing")
        return None
    path = places.find(name, "ply_file_path")
    points = None if path.stat().st_size == 0 else read_ply(path, torch.float64, finite=False)
    if points is None or not len(points):
        notes.without_points(f"{path} is empty")
        return None
    return points
