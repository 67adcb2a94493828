"""Reader of OpenSfM's ``reconstruction.json``, which OpenDroneMap and Mapillary write too
(https://opensfm.org/docs/geometry.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap_places import photos_folder
from fvgen.data.file_places import FilePlaces
from fvgen.data.photos import photo_size
from fvgen.data.text_files import read_text
from fvgen.data.transforms_json import described_capture
from fvgen.types import PointCloud

_FILE = "reconstruction.json"
_LENSES = ("perspective", "simple_radial", "radial", "brown")
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_AGAIN = "Run opensfm reconstruct again."


def find_opensfm(path: Path) -> Path | None:
    """The ``reconstruction.json`` that a path means: itself, that of the folder, or OpenDroneMap's."""
    files = (path,) if path.name == _FILE else (path / _FILE, path / "opensfm" / _FILE)
    return next((file for file in files if file.is_file()), None)


def read_opensfm(file: Path, notes: CaptureNotes) -> CaptureFiles:
    """The photos of the largest of its reconstructions.

    Raises:
        InputError: the file is damaged.
    """
    capture = file.parent.parent if file.parent.name == "opensfm" else file.parent
    try:
        reconstructions = json.loads(read_text(file))
        largest = max(reconstructions, key=lambda one: len(one["shots"]))
        if len(reconstructions) > 1:
            notes.add(f"{file} holds {len(reconstructions)} reconstructions: the largest is read.")
        photos = photos_folder(capture, file.parent, list(largest["shots"]), ())
        places = FilePlaces(capture, CaptureNotes())
        frames = []
        for name, shot in largest["shots"].items():
            place = str(photos.relative_to(capture) / name)
            with notes.leaving_out(place):
                camera = largest["cameras"][shot["camera"]]
                size = _stored_size(camera, places.find(place, "its photo"))
                frames.append({"file_path": place, **_lens(camera, size, place), "transform_matrix": _pose(shot)})
        points = _points(largest.get("points") or {})
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, cv2.error) as error:
        raise InputError(complaint(str(file), "be a whole reconstruction", f"{error!r}", _AGAIN)) from error
    if points is None:
        notes.without_points(f"none in {file}")
    return replace(described_capture(capture, {"frames": frames}, notes), points=points)


def _stored_size(camera: Mapping[str, Any], photo: Path) -> tuple[int, int]:
    """(width, height) of a photo's pixels as they are stored: OpenSfM does not turn photos by their EXIF orientation.
    A photo that was turned since then has the shape of the other reading."""
    size = photo_size(photo)
    then = camera.get("width", size[0]), camera.get("height", size[1])
    return size if (then[0] > then[1]) == (size[0] > size[1]) else size[::-1]


def _lens(camera: Mapping[str, Any], size: tuple[int, int], name: str) -> dict[str, Any]:
    """Intrinsics in pixels of a photo of (width, height): OpenSfM measures in longer sides, from the photo's middle."""
    kind = camera.get("projection_type", "perspective")
    undistort = "Undistort it first: opensfm undistort PROJECT, then give --data PROJECT/undistorted."
    require(kind in _LENSES, f"the lens of {name}", f"be one of {', '.join(_LENSES)}", kind, undistort)
    longest = max(size)
    fx, fy = (camera.get(key, camera.get("focal")) for key in ("focal_x", "focal_y"))
    return {
        "w": size[0],
        "h": size[1],
        "fl_x": float(fx) * longest,
        "fl_y": float(fy) * longest,
        "cx": 0.5 * size[0] + camera.get("c_x", 0.0) * longest,
        "cy": 0.5 * size[1] + camera.get("c_y", 0.0) * longest,
        **{key: camera.get(key, 0.0) for key in ("k1", "k2", "k3", "p1", "p2")},
    }


def _pose(shot: Mapping[str, Any]) -> list[list[float]]:
    """Camera-to-world with OpenGL axes; a shot has the rotation vector and translation from the world to the camera."""
    w2c = np.eye(4)
    w2c[:3, :3] = cv2.Rodrigues(np.array(shot["rotation"], dtype=np.float64))[0]
    w2c[:3, 3] = shot["translation"]
    return (np.linalg.inv(w2c) @ _OPENGL).tolist()


def _points(points: Mapping[str, Any]) -> PointCloud | None:
    rows = [[*point["coordinates"], *point["color"]] for point in points.values()]
    if not rows:
        return None
    table = torch.tensor(rows, dtype=torch.float64)
    return PointCloud(table[:, :3], (table[:, 3:] / 255).float().clamp(0, 1), torch.ones(len(table)))
