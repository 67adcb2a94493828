"""Photos as users have them: grey, 16-bit, RGBA, palette and EXIF-rotated files, all as 8-bit RGB or RGBA."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps

from fvgen.checks import InputError, complaint, require

_ORIENTATION = 0x0112
"""EXIF tag: how the stored pixels must be turned to stand upright."""
_SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N", "I"}


_FACTORS = (2, 4, 8, 16)
_FOLDERS = ("images", *(f"images_{factor}" for factor in _FACTORS))
"""Where data sets keep photos and their copies: as many times smaller as the folder's name says."""


def copies(path: Path) -> list[Path]:
    """Where a photo may lie, in itself or as a copy of another size: the named place first, then ``images/a.png``,
    ``images_2/a.png``, ``images_4/a.png``, ... for a path through any of these folders."""
    places = [path]
    for i, part in enumerate(path.parts):
        if part in _FOLDERS:
            places += [Path(*path.parts[:i], name, *path.parts[i + 1 :]) for name in _FOLDERS]
    return list(dict.fromkeys(places))


def copy_size(photo: Path, place: Path, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a photo whose intrinsics speak of ``size``: its own where it lies in one of the folders of
    smaller copies and is smaller in the same shape; else ``size``, which is then compared with the file.

    Args:
        photo: the file.
        place: where it lies within the capture.
        size: as described.

    Raises:
        InputError: the file is missing or no image.
    """
    if not any(part in _FOLDERS[1:] for part in place.parts[:-1]):
        return size
    width, height = photo_size(photo, size)
    # copies lose the fraction of a pixel that their sides leave over
    shape_kept = abs(width / size[0] - height / size[1]) < 1 / size[0] + 1 / size[1]
    return (width, height) if shape_kept and width < size[0] else size


def photo_size(path: Path, expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) in pixels from the file's header, EXIF orientation honoured as `read_photo` does.

    Raises:
        InputError: the file is missing or no image.
    """
    with _open(path) as image:
        sideways = _upright(image, expected) and _orientation(image) in _SIDEWAYS
        return image.size[::-1] if sideways else image.size


def check_photo_size(path: Path, expected: tuple[int, int]) -> None:
    """Refuse a photo of another (width, height) than its intrinsics say."""
    size = photo_size(path, expected)
    require(
        size == tuple(expected),
        f"photo {path}",
        f"be {expected[0]}x{expected[1]} pixels as its intrinsics say",
        f"{size[0]}x{size[1]}",
        "Use the photo that the poses were made from, or run ns-process-data again.",
    )


def is_portable(path: Path, size: tuple[int, int]) -> bool:
    """Whether any tool reads the file as its intrinsics mean it: upright 8-bit grey or colour of that (width, height).

    Others ignore the EXIF orientation, and garble 16-bit files.

    Raises:
        InputError: the file is missing or no image.
    """
    with _open(path) as image:
        return _orientation(image) == 1 and image.mode in ("L", "RGB", "RGBA") and image.size == tuple(size)


def read_photo(path: Path, expected: tuple[int, int] | None = None) -> np.ndarray:
    """The photo's pixels.

    Args:
        path: any file that Pillow reads.
        expected: (width, height) that its intrinsics say.

    Returns:
        [H, W, 3] uint8, or [H, W, 4] when the photo has transparency.

    Raises:
        InputError: missing, truncated, no image, of another size than expected, or with pixels that are neither 8 nor
            16 bits deep.
    """
    if expected is not None:
        check_photo_size(path, expected)
    with _open(path) as image:
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
            text = complaint(f"photo {path}", "be a whole image", f"'{error}'", "Copy the file again.")
            raise InputError(text) from error
        turned = ImageOps.exif_transpose(image) if _upright(image, expected) else image
        require(
            turned.mode != "F",
            f"photo {path}",
            "have 8 or 16 bits a channel",
            "floating-point pixels",
            "Convert it to PNG or JPEG.",
        )
        if turned.mode in _SIXTEEN_BIT:
            grey = np.asarray(turned).astype(np.float64) / 65535
            return np.repeat(np.rint(255 * grey.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=2)
        transparent = turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info
        return np.asarray(turned.convert("RGBA" if transparent else "RGB"))


def _open(path: Path) -> Image.Image:
    require(path.is_file(), "photo", "be an existing file", path, "Put the file there or drop its frame.")
    try:
        return Image.open(path)
    except Exception as error:  # as for decoding: headers can be damaged in any way
        text = complaint(f"photo {path}", "be an image that Pillow reads", f"'{error}'", "Convert it to PNG or JPEG.")
        raise InputError(text) from error


def _orientation(image: Image.Image) -> int:
    try:
        # Pillow decodes a PNG to its end, for metadata may follow the pixels: only where some does
        file = getattr(image, "fp", None)  # None once it is decoded
        late = image.format != "PNG" or file is None or _text_follows_pixels(file)
        exif = image.getexif() if late else Image.Image.getexif(image)
        return int(exif.get(_ORIENTATION, 1))
    except Exception:  # damaged metadata holds no orientation; the pixels are still good
        return 1


def _text_follows_pixels(file: IO[bytes]) -> bool:
    """Whether a PNG has metadata after its pixels."""
    place = file.tell()
    try:
        file.seek(8)  # past the signature
        follows = False
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            if follows and head[4:] in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            follows |= head[4:] == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)  # content and checksum
        return False
    finally:
        file.seek(place)


def _upright(image: Image.Image, expected: tuple[int, int] | None) -> bool:
    """Whether the EXIF orientation is to be applied.

    Intrinsics made by a tool that honours EXIF fit the turned photo, those of one that ignores it (COLMAP) the stored
    one; where both sizes fit, the turned photo is what its owner saw.
    """
    orientation = _orientation(image)
    if orientation not in range(2, 9):
        return False
    turned = image.size[::-1] if orientation in _SIDEWAYS else image.size
    return expected is None or turned == tuple(expected) or image.size != tuple(expected)
