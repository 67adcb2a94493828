"""COLMAP's own files, ``cameras`` and ``images`` as text or binary (https://colmap.github.io/format.html)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fvgen.checks import InputError, complaint, require

_MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)  # fmt: skip
"""Name and number of parameters of the camera models, by their number in binary files."""
_POINT_BYTES = 24
"""Of an image's two-dimensional point: x, y, number of the point in space."""


@dataclass(frozen=True)
class ColmapCamera:
    """One camera."""

    model: str
    size: tuple[int, int]
    """(width, height)"""
    params: tuple[float, ...]
    """in the model's order"""


@dataclass(frozen=True)
class ColmapImage:
    """One photo that was given a pose."""

    name: str
    """path below the folder of photos"""
    camera: int
    w2c: np.ndarray
    """[4, 4] world-to-camera, OpenCV axes"""


def read_model(folder: Path) -> tuple[dict[int, ColmapCamera], list[ColmapImage]]:
    """Cameras by number, and images, of a model; binary files are taken before text, as COLMAP does.

    Raises:
        InputError: a file is missing or damaged.
    """
    binary = (folder / "cameras.bin").is_file()
    cameras, images = (folder / f"{name}.{'bin' if binary else 'txt'}" for name in ("cameras", "images"))
    readers = (_binary_cameras, _binary_images) if binary else (_text_cameras, _text_images)
    for path in (cameras, images):
        require(path.is_file(), str(path), "be there", "no such file", "Run COLMAP again.")
    path = cameras
    try:
        found = dict(readers[0](cameras))
        path = images
        photos = list(readers[1](images))
    except (OSError, ValueError, IndexError, struct.error) as error:
        text = complaint(str(path), "be a whole COLMAP file", f"'{error}'", "Run COLMAP again.")
        raise InputError(text) from error
    unknown = {image.camera for image in photos} - set(found)
    require(not unknown, str(images), "name cameras of the model", sorted(unknown), "Run COLMAP again.")
    return found, photos


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *params = line.split()
            yield int(number), _camera(model, (int(width), int(height)), [float(value) for value in params])


def _text_images(path: Path) -> Iterator[ColmapImage]:
    """Two lines an image; the second, its two-dimensional points, may be empty."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    for line in lines[::2]:
        if line.strip():
            _, *pose, camera, name = line.split(maxsplit=9)
            yield _image(name.strip(), int(camera), [float(value) for value in pose])


def _binary_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    with path.open("rb") as file:
        for _ in range(_read(file, "<Q")[0]):
            number, model, width, height = _read(file, "<iiQQ")
            if not 0 <= model < len(_MODELS):
                raise ValueError(f"camera model number {model}")
            name, count = _MODELS[model]
            yield number, _camera(name, (width, height), list(_read(file, f"<{count}d")))


def _binary_images(path: Path) -> Iterator[ColmapImage]:
    with path.open("rb") as file:
        for _ in range(_read(file, "<Q")[0]):
            _, *pose, camera = _read(file, "<I7dI")
            name = b"".join(iter(lambda: file.read(1).strip(b"\0"), b""))
            (points,) = _read(file, "<Q")
            if _POINT_BYTES * points > path.stat().st_size - file.tell():
                raise ValueError(f"it ends within the points of {name!r}")
            file.seek(_POINT_BYTES * points, os.SEEK_CUR)
            yield _image(name.decode(), camera, pose)


def _read(file: BinaryIO, layout: str) -> tuple:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))


def _camera(model: str, size: tuple[int, int], params: list[float]) -> ColmapCamera:
    counts = dict(_MODELS)
    if counts.get(model, len(params)) != len(params):
        raise ValueError(f"{len(params)} parameters of a {model} camera")
    return ColmapCamera(model, size, tuple(params))


def _image(name: str, camera: int, pose: list[float]) -> ColmapImage:
    """From a quaternion (w, x, y, z), of any length, and a translation."""
    quaternion = np.array(pose[:4])
    length = np.linalg.norm(quaternion)
    if not (np.isfinite(pose).all() and length > 0 and name):
        raise ValueError(f"image {name!r} with pose {pose}")
    w, x, y, z = quaternion / length
    w2c = np.eye(4)
    w2c[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    w2c[:3, 3] = pose[4:7]
    return ColmapImage(name, camera, w2c)
