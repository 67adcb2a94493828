"""COLMAP's own files, ``cameras``, ``images`` and ``points3D`` as text or binary (https://colmap.github.io/format.html).

pycolmap 4.2.1 reads them too, but cuts names in text files at the first space, loses every second photo of a text file
without empty lines and the last one of a file without its last line, refuses models without points and text that
begins with a byte order mark, and ends the process's memory on an empty ``points3D.bin``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.text_files import read_text
from fvgen.types import PointCloud

_MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16), ("SIMPLE_DIVISION", 4), ("DIVISION", 5), ("SIMPLE_FISHEYE", 3), ("FISHEYE", 4),
    ("EUCM", 6), ("EQUIRECTANGULAR", 2),
)  # fmt: skip
"""Name and number of parameters of the camera models, by their number in binary files."""
_POINT_2D = np.dtype([("x", "<f8"), ("y", "<f8"), ("number", "<i8")])
"""What an image shows of a point in space; its number is -1 where it belongs to none."""
_TRACK_BYTES = 8
"""Bytes for each photo that sees a point in space: its number, number of the two-dimensional point."""
_POSE_FIELDS = 9
"""Before the name in a line of images.txt: number, quaternion, translation, camera."""
_AGAIN = "Export the model again, or run COLMAP again."


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
    """[4, 4] world-to-camera, OpenCV axes; NaN where the file has no usable pose"""
    seen: np.ndarray
    """[M, 3] points in space that the photo shows: x and y in pixels, number of the point or -1"""


@dataclass(frozen=True)
class ColmapPoints:
    """Points in space."""

    cloud: PointCloud
    """float64"""
    numbers: np.ndarray
    """[P] int64"""


def model_files(folder: Path) -> tuple[Path, Path] | None:
    """The ``cameras`` and ``images`` files of a model, binary ones before text as COLMAP does; None without both."""
    for pair in ((folder / f"cameras.{kind}", folder / f"images.{kind}") for kind in ("bin", "txt")):
        if all(path.is_file() for path in pair):
            return pair
    return None


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Cameras by number.

    Raises:
        InputError: the file is missing or damaged, or has camera models that are not known here.
    """
    with _whole(path):
        return dict(_binary_cameras(path) if path.suffix == ".bin" else _text_cameras(path))


def read_images(path: Path) -> list[ColmapImage]:
    """Photos with poses.

    Raises:
        InputError: the file is missing or damaged.
    """
    with _whole(path):
        return list(_binary_images(path) if path.suffix == ".bin" else _text_images(path))


def read_points(path: Path) -> ColmapPoints | None:
    """Points in space; None where the file has none, not even a header.

    Raises:
        InputError: the file is missing or damaged.
    """
    with _whole(path):
        if not path.stat().st_size:
            return None
        rows = list(_binary_points(path) if path.suffix == ".bin" else _text_points(path))
    if not rows:
        return None
    numbers = np.array([row[0] for row in rows], dtype=np.int64)
    table = torch.tensor([row[1:] for row in rows], dtype=torch.float64)
    cloud = PointCloud(table[:, :3], (table[:, 3:] / 255).float().clamp(0, 1), torch.ones(len(table)))
    return ColmapPoints(cloud, numbers)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into an `InputError`."""
    require(path.is_file(), str(path), "be there", "no such file", _AGAIN)
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, IndexError, OverflowError, struct.error) as error:
        raise InputError(complaint(str(path), "be a whole COLMAP file", f"'{error}'", _AGAIN)) from error


def _lines(path: Path) -> Iterator[str]:
    """Lines that say something. Names of files may be of any encoding."""
    lines = read_text(path, "surrogateescape").split("\n")
    return (line for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _text_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    for line in _lines(path):
        number, model, width, height, *params = line.split()
        yield int(number), _camera(model.upper(), (int(width), int(height)), [float(value) for value in params])


def _text_images(path: Path) -> Iterator[ColmapImage]:
    """An image has one line, and one for the points that it shows, which may be empty, missing or doubled: what a line
    holds tells them apart."""
    image: ColmapImage | None = None
    for line in _lines(path):
        seen = _seen(line)
        if seen is None:
            if image is not None:
                yield image
            _, *pose, camera, name = line.split(maxsplit=_POSE_FIELDS)
            name = os.fsdecode(name.strip().encode("utf-8", "surrogateescape"))  # as file names are spelled here
            image = _image(name, int(camera), [float(value) for value in pose], np.empty((0, 3)))
        elif image is None or len(image.seen):
            raise ValueError(f"no image line before '{line[:60].strip()}'")
        else:
            image = replace(image, seen=seen)
    if image is not None:
        yield image


def _seen(line: str) -> np.ndarray | None:
    """The points that a line gives as x, y, number, x, y, number, ...; None when it gives none, but a photo, whose name
    is seldom a number."""
    try:
        float(line.rsplit(maxsplit=1)[-1])  # tells most, at once
        fields = line.split()
        return None if len(fields) % 3 else np.array(fields, dtype=np.float64).reshape(-1, 3)
    except ValueError:
        return None


def _text_points(path: Path) -> Iterator[tuple[float, ...]]:
    for line in _lines(path):
        number, x, y, z, red, green, blue, *_ = line.split(maxsplit=7)
        yield int(number), float(x), float(y), float(z), float(red), float(green), float(blue)


class _Binary:
    """A little-endian file that is read from its start on, and may not end early."""

    def __init__(self, path: Path) -> None:
        self._data = path.read_bytes()
        self._at = 0

    def values(self, layout: str) -> tuple:
        """The next values, in `struct`'s notation."""
        values = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def name(self) -> str:
        """Text up to a zero byte, in whatever encoding file names have."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise ValueError("it ends within a name")
        name, self._at = self._data[self._at : end], end + 1
        return os.fsdecode(name)

    def take(self, count: int, of: str) -> memoryview:
        """The next ``count`` bytes."""
        part = memoryview(self._data)[self._at : self._at + count]
        if len(part) < count:
            raise ValueError(f"it ends within {of}")
        self._at += count
        return part


def _binary_cameras(path: Path) -> Iterator[tuple[int, ColmapCamera]]:
    file = _Binary(path)
    for _ in range(file.values("Q")[0]):
        number, model, width, height = file.values("iiQQ")
        require(
            0 <= model < len(_MODELS),
            f"camera models of {path}",
            f"be one of COLMAP's {len(_MODELS)}",
            f"number {model}",
            "Undistort the photos with the COLMAP that made the model (colmap image_undistorter).",
        )
        name, count = _MODELS[model]
        yield number, _camera(name, (width, height), list(file.values(f"{count}d")))


def _binary_images(path: Path) -> Iterator[ColmapImage]:
    file = _Binary(path)
    for _ in range(file.values("Q")[0]):
        _, *pose, camera = file.values("I7dI")
        name = file.name()
        seen = np.frombuffer(
            file.take(_POINT_2D.itemsize * file.values("Q")[0], f"the points of {name!r}"), dtype=_POINT_2D
        )
        yield _image(name, camera, pose, np.stack([seen[field] for field in ("x", "y", "number")], axis=1))


def _binary_points(path: Path) -> Iterator[tuple[float, ...]]:
    file = _Binary(path)
    for _ in range(file.values("Q")[0]):
        *values, _, track = file.values("Q3d3BdQ")
        file.take(_TRACK_BYTES * track, "a point's track")
        yield tuple(values)


def _camera(model: str, size: tuple[int, int], params: list[float]) -> ColmapCamera:
    counts = dict(_MODELS)
    if counts.get(model, len(params)) != len(params):
        raise ValueError(f"{len(params)} parameters of a {model} camera")
    if min(size) <= 0:
        raise ValueError(f"a camera of {size[0]}x{size[1]} pixels")
    return ColmapCamera(model, size, tuple(params))


def _image(name: str, camera: int, pose: list[float], seen: np.ndarray) -> ColmapImage:
    """From a quaternion (w, x, y, z), of any length, and a translation."""
    if not name:
        raise ValueError("an image without a name")
    quaternion = np.array(pose[:4])
    length = np.linalg.norm(quaternion)
    with np.errstate(invalid="ignore", divide="ignore"):
        w, x, y, z = quaternion / length
    w2c = np.eye(4)
    w2c[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    w2c[:3, 3] = pose[4:7]
    return ColmapImage(name, camera, w2c if np.isfinite(w2c).all() else np.full((4, 4), np.nan), seen)
