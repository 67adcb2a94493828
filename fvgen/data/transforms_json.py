"""Reader of Nerfstudio's ``transforms.json``, strict about all that would surface later as a bad splat."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import DEPTH_UNIT, CaptureFiles, CaptureFrame, check_frame
from fvgen.data.photos import copies, copy_size, photo_size
from fvgen.geometry.points import read_ply

PINHOLE_MODELS = {"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE"}
UNDISTORT = (
    "Undistort it first: colmap image_undistorter --image_path IMAGES --input_path SPARSE --output_path OUT, "
    "then ns-process-data images --data OUT/images --output-dir CAPTURE."
)
SPLIT_PANORAMA = (
    "Cut it into perspective photos: "
    "ns-process-data images --camera-type equirectangular --data PHOTOS --output-dir CAPTURE"
)
_RESTORE = "Restore transforms.json or run ns-process-data again."


def read_transforms(path: Path) -> CaptureFiles:
    """The capture that a ``transforms.json`` describes: every frame checked as far as file headers tell.

    Args:
        path: the capture's folder, or the JSON file itself.

    Raises:
        InputError: the folder is missing or no capture, or something in the description cannot be used.
    """
    path = Path(path)
    require(path.exists(), "capture", "be an existing folder", path, "Check the path given to --data.")
    file = path if path.suffix == ".json" else path / "transforms.json"
    require(
        file.is_file(),
        "capture",
        "be a folder with a transforms.json",
        f"{path} without one",
        "Make one with: ns-process-data images --data PHOTOS --output-dir CAPTURE",
    )
    meta = _load(file)
    folder = file.parent
    entries: Any = meta.get("frames")
    require(
        isinstance(entries, list) and len(entries) > 0,
        "frames in transforms.json",
        "be a list of at least one frame",
        entries,
        "Run ns-process-data again; it found no camera for any photo.",
    )
    frames = sorted((_frame(folder, meta, entry, i) for i, entry in enumerate(entries)), key=lambda frame: frame.name)
    for frame in frames:
        check_frame(frame)
    warnings: list[str] = []
    return CaptureFiles(
        folder=folder,
        frames=tuple(frames),
        splits=_splits(folder, meta, frames, warnings),
        sparse_ply=_sparse_ply(folder, meta, warnings),
        depth_unit=_depth_unit(meta),
        warnings=tuple(warnings),
    )


def _load(file: Path) -> dict[str, Any]:
    try:
        meta = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(complaint(str(file), "be valid JSON", f"'{error}'", _RESTORE)) from error
    require(isinstance(meta, dict), str(file), "hold an object", type(meta).__name__, _RESTORE)
    return meta


def _inside(folder: Path, relative: Any, what: str) -> Path:
    """The file that a path in the description means; it may not leave the capture."""
    require(
        isinstance(relative, str) and relative != "",
        f"{what} in transforms.json",
        "be a path in the capture",
        repr(relative),
        _RESTORE,
    )
    path, where = folder / relative, "nowhere"
    try:
        path.exists()  # raises for names that are too long
        where = str(path.resolve())
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name no file can have, or links in a circle
        stays = False
    require(
        stays,
        f"{what} in transforms.json",
        "stay inside the capture",
        f"{relative!r}, which leads to {where}",
        "Copy the file into the capture's folder.",
    )
    return path


def _frame(folder: Path, meta: dict[str, Any], entry: Any, index: int) -> CaptureFrame:
    require(
        isinstance(entry, dict) and "file_path" in entry,
        f"frame {index} in transforms.json",
        "have a file_path",
        entry,
        _RESTORE,
    )
    name = entry["file_path"]
    # Blender leaves the suffix out
    place = Path(name) if _inside(folder, name, "file_path").exists() or Path(name).suffix else Path(f"{name}.png")
    place = next((copy for copy in copies(place) if _inside(folder, str(copy), "file_path").is_file()), place)
    photo = folder / place
    require(photo.is_file(), f"photo of frame {index}", "exist", photo, "Put it there or remove the frame.")
    both = {**meta, **entry}
    _check_model(both, name)
    described = _size(both, photo, name)
    K = _intrinsics(both, described, name)
    size = copy_size(photo, place, described)  # DL3DV-10K: intrinsics of images/, of which only a copy is there
    K[:2] *= np.array(size)[:, None] / np.array(described)[:, None]
    return CaptureFrame(
        name=name,
        photo=photo,
        c2w=_pose(entry, name),
        K=K,
        size=size,
        distortion=_distortion(both, name),
        depth=_optional(folder, entry, "depth_file_path"),
        mask=_optional(folder, entry, "mask_path"),
    )


def _optional(folder: Path, entry: dict[str, Any], key: str) -> Path | None:
    if entry.get(key) is None:
        return None
    path = _inside(folder, entry[key], key)
    require(path.is_file(), key, "name an existing file", path, f"Restore it or remove {key} from the frame.")
    return path


def _check_model(both: dict[str, Any], name: str) -> None:
    """Refuse lenses that no pinhole camera with OpenCV's k1 k2 p1 p2 k3 describes."""
    model = "OPENCV_FISHEYE" if both.get("is_fisheye") else both.get("camera_model", "PINHOLE")
    cure = SPLIT_PANORAMA if model == "EQUIRECTANGULAR" else UNDISTORT
    known = isinstance(model, str) and model in PINHOLE_MODELS
    require(known, f"camera_model of {name}", f"be one of {sorted(PINHOLE_MODELS)}", model, cure)


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


def _distortion(both: dict[str, Any], name: str) -> tuple[float, ...]:
    """OpenCV's k1 k2 p1 p2 k3."""
    if "distortion_params" in both:  # Nerfstudio's order: k1 k2 k3 k4 p1 p2
        values = both["distortion_params"]
    else:
        values = [both.get(key, 0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")]
    k1, k2, k3, k4, p1, p2 = _numbers(values, (6,), f"distortion of {name}")
    require(k4 == 0, f"distortion k4 of {name}", "be 0 for a perspective camera", k4, UNDISTORT)
    return float(k1), float(k2), float(p1), float(p2), float(k3)


def _depth_unit(meta: dict[str, Any]) -> float:
    unit = float(_numbers(meta.get("depth_unit_scale_factor", DEPTH_UNIT), (), "depth_unit_scale_factor"))
    require(math.isfinite(unit) and unit > 0, "depth_unit_scale_factor", "be positive", unit, _RESTORE)
    return unit


def _splits(
    folder: Path, meta: dict[str, Any], frames: list[CaptureFrame], warnings: list[str]
) -> dict[str, tuple[int, ...]]:
    """Frame indices of the splits that the description names; files are compared, not spellings of their path."""
    by_name = {frame.name: i for i, frame in enumerate(frames)}
    by_file = {frame.photo.resolve(): i for i, frame in enumerate(frames)}
    require(
        len(by_file) == len(frames),
        "frames in transforms.json",
        "name each photo once",
        f"{len(frames)} frames for {len(by_file)} photos",
        "Remove the repeated frames.",
    )
    splits: dict[str, tuple[int, ...]] = {}
    for split in ("train", "val", "test"):
        key = f"{split}_filenames"
        names = meta.get(key)
        if names is None:
            continue
        require(
            isinstance(names, list) and all(isinstance(name, str) for name in names),
            f"{key} in transforms.json",
            "be a list of file paths",
            names,
            _RESTORE,
        )
        indices = [by_name.get(name, by_file.get(_inside(folder, name, key).resolve())) for name in names]
        unknown = [name for name, i in zip(names, indices, strict=True) if i is None]
        require(
            not unknown,
            f"{key} in transforms.json",
            "name frames of the capture",
            unknown,
            "Remove them from the list or add their frames.",
        )
        splits[split] = tuple(sorted({i for i in indices if i is not None}))
    shared = set(splits.get("train", ())) & {i for key in ("val", "test") for i in splits.get(key, ())}
    if shared:
        warnings.append(
            f"{len(shared)} photos are both trained on and held out: held-out figures flatter this capture."
        )
    return splits


def _sparse_ply(folder: Path, meta: dict[str, Any], warnings: list[str]) -> Path | None:
    """The capture's PLY, or None and a warning when it names none, or one that is missing or empty."""
    relative = meta.get("ply_file_path")
    if relative is None:
        warnings.append("The capture has no sparse points (no ply_file_path): going on without them.")
        return None
    path = _inside(folder, relative, "ply_file_path")
    if not path.is_file():
        warnings.append(f"The capture's sparse points are missing ({path}): going on without them.")
        return None
    if path.stat().st_size == 0 or not len(read_ply(path)):
        warnings.append(f"The capture's sparse points are empty ({path}): going on without them.")
        return None
    return path
