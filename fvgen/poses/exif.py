"""What a photo's metadata says about the camera: its focal length, and which photos one camera took."""

from __future__ import annotations

import tempfile
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

_WIDTH = 400
"""Pixels of the stand-in whose metadata pycolmap reads; the focal length is scaled from there."""
_SHAPE_TOLERANCE = 0.01
"""A photo whose shape differs by more from what its metadata says was cropped: its focal length says nothing then."""
_FROM_CAMERA = (
    ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm, ExifTags.Base.LensModel,
    ExifTags.Base.DigitalZoomRatio,
)  # fmt: skip


@dataclass(frozen=True)
class CameraFacts:
    """What the metadata of one photo says."""

    focal: float | None
    """Focal length in longer sides of the photo; None where nothing says it."""
    camera: Hashable
    """Equal for photos of one camera at one zoom, as far as the metadata tells."""


def camera_facts(image: Image.Image) -> CameraFacts:
    """Read the metadata of an opened photo; damaged metadata says nothing."""
    try:
        exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
    except Exception:  # Pillow raises errors of many kinds on damaged metadata; the pixels are still good
        return CameraFacts(None, ())
    identity = [
        exif.get(ExifTags.Base.Make),
        exif.get(ExifTags.Base.Model),
        *(details.get(tag) for tag in _FROM_CAMERA),
    ]
    cropped = _is_cropped(image.size, details)
    focal = None if cropped else _focal(identity[0], identity[1], details, min(image.size) / max(image.size))
    return CameraFacts(focal, tuple(str(part) for part in identity))


def _is_cropped(size: tuple[int, int], details: Image.Exif | dict) -> bool:
    try:
        width, height = (float(details[tag]) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight))
        shape, recorded = min(size) / max(size), min(width, height) / max(width, height)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):  # not said
        return False
    return abs(shape / recorded - 1) > _SHAPE_TOLERANCE


def _focal(make: str | None, model: str | None, details: Image.Exif | dict, shape: float) -> float | None:
    """In longer sides. pycolmap knows the 35 mm equivalent and the sensors of many cameras, but reads files alone."""
    import pycolmap

    stand_in = Image.new("L", (_WIDTH, max(1, round(_WIDTH * shape))))
    exif = stand_in.getexif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make or "", model or ""
    kept = exif.get_ifd(ExifTags.IFD.Exif)
    for tag in (ExifTags.Base.FocalLength, ExifTags.Base.FocalLengthIn35mmFilm):
        if details.get(tag):
            kept[tag] = details[tag]
    if not kept:
        return None
    with tempfile.TemporaryDirectory(prefix="fvgen-exif-") as folder:
        path = Path(folder) / "exif.jpg"
        try:
            stand_in.save(path, exif=exif)
        except (TypeError, ValueError, OSError):  # a value of a kind that the tag cannot have
            return None
        bitmap = pycolmap.Bitmap.read(str(path), False)
    focal = bitmap.exif_focal_length() if bitmap is not None else None
    return None if not focal or focal <= 0 else float(focal) / _WIDTH
