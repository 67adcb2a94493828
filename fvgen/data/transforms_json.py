"""Reader of Nerfstudio's ``transforms.json``, strict about all that would surface later as a bad splat."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles, CaptureFrame

PINHOLE_MODELS = {"PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "PERSPECTIVE"}
UNDISTORT = (
    "Undistort it first: colmap image_undistorter --image_path IMAGES --input_path SPARSE --output_path OUT, "
    "then ns-process-data on OUT."
)
_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


def read_transforms(path: Path) -> CaptureFiles:
    """The capture that a ``transforms.json`` describes.

    Args:
        path: the capture's folder, or the JSON file itself.

    Raises:
        InputError: the folder is missing or no capture, or something in the description cannot be used.
    """
    path = Path(path)
    require(path.exists(), "capture", "be an existing folder", path, "Check the path given to --data.")
    file = path if path.suffix == ".json" else path / "transforms.json"
    require(
        file.is_file(), "capture", "hold a transforms.json", path,
        "Make one with: ns-process-data images --data PHOTOS --output-dir CAPTURE",
    )  # fmt: skip
    meta = _load(file)
    folder = file.parent
    model = meta.get("camera_model", "PINHOLE")
    require(
        model in PINHOLE_MODELS,
        "camera_model", f"be one of {sorted(PINHOLE_MODELS)}", model, UNDISTORT,
    )  # fmt: skip
    frames = meta.get("frames")
    require(
        isinstance(frames, list) and len(frames) > 0,
        "frames in transforms.json", "be a list of at least one frame", type(frames).__name__ if frames else frames,
        "Run ns-process-data again; it found no camera for any photo.",
    )  # fmt: skip
    read = [_frame(folder, meta, entry, i) for i, entry in enumerate(frames)]
    read.sort(key=lambda frame: frame.name)
    warnings: list[str] = []
    return CaptureFiles(
        folder=folder,
        frames=tuple(read),
        splits=_splits(meta, read),
        sparse_ply=_sparse_ply(folder, meta, warnings),
        depth_unit=float(meta.get("depth_unit_scale_factor", 1e-3)),
        warnings=tuple(warnings),
    )


def _load(file: Path) -> dict[str, Any]:
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        text = complaint("transforms.json", "be valid JSON", error, "Restore the file or run ns-process-data again.")
        raise InputError(text) from error
    require(isinstance(meta, dict), "transforms.json", "hold an object", type(meta).__name__, "Restore the file.")
    return meta


def _inside(folder: Path, relative: str, what: str) -> Path:
    """The file that a path in the description means; it may not leave the capture."""
    path = folder / relative
    require(
        path.resolve().is_relative_to(folder.resolve()),
        f"{what} in transforms.json", "stay inside the capture", relative, "Copy the file into the capture's folder.",
    )  # fmt: skip
    return path


def _frame(folder: Path, meta: dict[str, Any], entry: dict[str, Any], index: int) -> CaptureFrame:
    require(
        isinstance(entry, dict) and isinstance(entry.get("file_path"), str),
        f"frame {index} in transforms.json", "have a file_path", entry, "Restore the file.",
    )  # fmt: skip
    name = entry["file_path"]
    photo = _inside(folder, name, "file_path")
    if not photo.suffix and not photo.exists():  # Blender leaves the suffix out
        photo = photo.with_suffix(".png")
    require(photo.is_file(), f"photo of frame {index}", "exist", photo, "Put it there or remove the frame.")
    both = {**meta, **entry}
    return CaptureFrame(
        name=name,
        photo=photo,
        c2w=_pose(entry, name),
        K=_intrinsics(both, name),
        size=_size(both, photo),
        distortion=_distortion(both, name),
        depth=_optional(folder, entry, "depth_file_path"),
        mask=_optional(folder, entry, "mask_path"),
    )


def _optional(folder: Path, entry: dict[str, Any], key: str) -> Path | None:
    if key not in entry:
        return None
    path = _inside(folder, entry[key], key)
    require(path.is_file(), key, "name an existing file", path, f"Restore it or remove {key} from the frame.")
    return path


def _numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.array([])
    require(array.shape == shape, what, f"be {'x'.join(map(str, shape))} numbers", value, "Restore transforms.json.")
    return array


def _pose(entry: dict[str, Any], name: str) -> np.ndarray:
    """[4, 4] OpenCV camera-to-world; Nerfstudio writes OpenGL axes."""
    matrix = entry.get("transform_matrix")
    if isinstance(matrix, list) and len(matrix) == 3:
        matrix = [*matrix, [0.0, 0.0, 0.0, 1.0]]
    return _numbers(matrix, (4, 4), f"transform_matrix of {name}") @ _AXES


def _size(both: dict[str, Any], photo: Path) -> tuple[int, int]:
    if "w" in both and "h" in both:
        return int(both["w"]), int(both["h"])
    from fvgen.data.photos import photo_size

    return photo_size(photo)


def _intrinsics(both: dict[str, Any], name: str) -> np.ndarray:
    fl_x = both.get("fl_x")
    if fl_x is None and "camera_angle_x" in both and "w" in both:
        fl_x = 0.5 * float(both["w"]) / math.tan(0.5 * float(both["camera_angle_x"]))
    known = {"fl_x": fl_x, "fl_y": both.get("fl_y", fl_x)}
    for key, size in (("cx", "w"), ("cy", "h")):
        known[key] = both.get(key, both[size] / 2 if size in both else None)
    missing = [key for key, value in known.items() if value is None]
    require(
        not missing, f"intrinsics of {name}", "give fl_x, fl_y, cx and cy", f"no {', '.join(missing)}",
        "Add them to transforms.json, or run ns-process-data again.",
    )  # fmt: skip
    fx, fy, cx, cy = _numbers(list(known.values()), (4,), f"intrinsics of {name}")
    require(
        bool(np.isfinite([fx, fy, cx, cy]).all()) and fx > 0 and fy > 0,
        f"focal length of {name}", "be positive", f"fl_x {fx}, fl_y {fy}", "Run ns-process-data again.",
    )  # fmt: skip
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _distortion(both: dict[str, Any], name: str) -> tuple[float, ...]:
    if "distortion_params" in both:  # Nerfstudio's order: k1 k2 k3 k4 p1 p2
        k1, k2, k3, k4, p1, p2 = _numbers(both["distortion_params"], (6,), f"distortion_params of {name}")
    else:
        k1, k2, k3, k4, p1, p2 = (float(both.get(key, 0)) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    require(k4 == 0, f"distortion k4 of {name}", "be 0 for a perspective camera", k4, UNDISTORT)
    return float(k1), float(k2), float(p1), float(p2), float(k3)


def _splits(meta: dict[str, Any], frames: list[CaptureFrame]) -> dict[str, tuple[int, ...]]:
    names = {frame.name: i for i, frame in enumerate(frames)}
    splits = {}
    for split in ("train", "val", "test"):
        listed = meta.get(f"{split}_filenames")
        if listed is None:
            continue
        unknown = [name for name in listed if name not in names]
        require(
            not unknown, f"{split}_filenames", "name frames of the capture", unknown,
            "Remove them from the list or add their frames.",
        )  # fmt: skip
        splits[split] = tuple(sorted(names[name] for name in listed))
    return splits


def _sparse_ply(folder: Path, meta: dict[str, Any], warnings: list[str]) -> Path | None:
    relative = meta.get("ply_file_path")
    if relative is None:
        warnings.append("The capture has no sparse points (no ply_file_path): going on without them.")
        return None
    path = _inside(folder, relative, "ply_file_path")
    if not path.is_file():
        warnings.append(f"The capture's sparse points are missing ({path}): going on without them.")
        return None
    from fvgen.geometry.points import read_ply

    if not len(read_ply(path)):
        warnings.append(f"The capture's sparse points are empty ({path}): going on without them.")
        return None
    return path
