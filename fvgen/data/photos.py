"""Photos as users have them: grey, 16-bit, RGBA, palette, HEIC and EXIF-rotated files, all as 8-bit RGB or RGBA."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from fvgen.checks import require
from fvgen.data.file_places import PHOTO_FOLDERS
from fvgen.data.image_files import ends_as_it_should, load, open_image, orientation

_SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N", "I"}
_SHAPE_TOLERANCE = 0.02
"""A copy, mask or depth map may have a slightly other shape than its photo, beyond what rounding its size does."""
_LARGE = 32_000_000
"""Pixels beyond which a photo is shrunk while it is decoded: its float32 copies would take gigabytes."""
_OPAQUE = 252
"""Least alpha of 255 of an opaque pixel; below, it is mixed with what it hides."""
_COMMON_FORMATS = {"JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP"}


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
    if not any(part in PHOTO_FOLDERS[1:] for part in place.parts[:-1]):
        return size
    width, height = photo_size(photo, size)
    # copies lose the fraction of a pixel that their sides leave over
    shape_kept = abs(width / size[0] - height / size[1]) < 1 / size[0] + 1 / size[1]
    return (width, height) if shape_kept and width < size[0] else size


def same_shape(size: tuple[int, int], photo: tuple[int, int]) -> bool:
    """Whether a picture of one (width, height) shows all of a photo of another, larger or smaller."""
    across, down = size[0] / photo[0], size[1] / photo[1]
    rounding = 0.5 / photo[0] + 0.5 / photo[1]
    return abs(across - down) <= max(_SHAPE_TOLERANCE * down, rounding)


def photo_size(path: Path, expected: tuple[int, int] | None = None, what: str = "photo") -> tuple[int, int]:
    """(width, height) in pixels from the file's header, EXIF orientation honoured as `read_photo` does; an error
    calls it ``what``.

    Raises:
        InputError: the file is missing or no image.
    """
    with open_image(path, what) as image:
        sideways = to_be_turned(image, expected) and orientation(image) in _SIDEWAYS
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


def exif_reading(path: Path, expected: tuple[int, int]) -> Literal["none", "honoured", "ignored", "open"]:
    """What a tool made of the EXIF orientation whose intrinsics are for a photo of ``expected`` (width, height): there
    is none, it turned the photo, it did not, or the sizes do not tell.

    Raises:
        InputError: the file is missing or no image.
    """
    with open_image(path) as image:
        if orientation(image) not in range(2, 9):
            return "none"
        turned = _turned_size(image)
        if image.size == turned == tuple(expected):
            return "open"
        return "ignored" if image.size == tuple(expected) else "honoured"


def is_portable(path: Path, size: tuple[int, int]) -> bool:
    """Whether any tool reads the file as its intrinsics mean it: upright 8-bit grey or colour of that (width, height).

    Others ignore the EXIF orientation, garble 16-bit files and know no HEIC.

    Raises:
        InputError: the file is missing or no image.
    """
    with open_image(path) as image:
        plain = image.format in _COMMON_FORMATS and image.mode in ("L", "RGB", "RGBA")
        return plain and orientation(image) == 1 and image.size == tuple(size)


def read_photo(
    path: Path,
    expected: tuple[int, int] | None = None,
    *,
    exif_ignored: bool = False,
    at_least: int | None = None,
) -> np.ndarray:
    """The photo's pixels.

    Intrinsics made by a tool that honours the EXIF orientation fit the turned photo, those of one that ignores it the
    stored one: sizes decide where they can.

    Args:
        path: any file that Pillow reads.
        expected: (width, height) that its intrinsics say.
        exif_ignored: whether the stored pixels are meant where the sizes of both readings fit.
        at_least: longest side that is needed. Beyond `_LARGE` pixels the photo is then shrunk by a power of 2, as far
            as that allows: memory stays bounded.

    Returns:
        [H, W, 3] uint8, or [H, W, 4] when the photo has transparency.

    Raises:
        InputError: missing, truncated, no image, of another size than expected, or with pixels that are neither 8 nor
            16 bits deep.
    """
    if expected is not None:
        check_photo_size(path, expected)
    with open_image(path) as image:
        upright = to_be_turned(image, expected, exif_ignored)
        longest, factor = max(image.size), _shrinking(image.size, at_least)
        if factor > 1:  # JPEG decodes to a half, quarter or eighth for less
            image.draft(None, (math.ceil(image.width / factor), math.ceil(image.height / factor)))
        pixels = load(image, path)
        pixels = _eight_bit(ImageOps.exif_transpose(pixels) if upright else pixels, path)
        left = factor * max(pixels.size) // longest
        return np.asarray(pixels.reduce(left) if left > 1 else pixels)


def check_whole(path: Path) -> None:
    """Refuse a photo that is cut off or damaged, or in which nothing is visible.

    JPEG and PNG files say where they end, and PNG has checksums: only others, and transparent photos, are decoded.

    Raises:
        InputError: as `read_photo`.
    """
    with open_image(path) as image:
        _refuse_floats(image, path)
        transparent = _is_transparent(image)
        if not transparent and ends_as_it_should(path, image.format):
            return
        image.draft("L", (image.width // 8, image.height // 8))
        load(image, path)
        if transparent:
            require_visible(path, bool(np.asarray(image.convert("RGBA").getchannel("A")).any()))


def has_transparency(path: Path) -> bool:
    """Whether a photo can have transparent pixels, from its header.

    Raises:
        InputError: the file is missing or no image.
    """
    with open_image(path) as image:
        return _is_transparent(image)


def opaque_pixels(photo: np.ndarray) -> np.ndarray:
    """[H, W] bool: where a photo [H, W, 3 or 4] uint8 is not transparent, not even in part."""
    return photo[..., 3] > _OPAQUE if photo.shape[2] == 4 else np.ones(photo.shape[:2], bool)


def require_visible(path: Path, visible: bool) -> None:
    """Refuse a photo in which nothing is visible."""
    require(visible, f"photo {path}", "have visible pixels", "a wholly transparent one", "Leave its frame out.")


def _shrinking(size: tuple[int, int], at_least: int | None) -> int:
    """Factor by which a photo of that size is shrunk: a power of 2, for JPEG decodes to such parts of itself."""
    factor = 1
    while at_least is not None and size[0] * size[1] > _LARGE * factor**2 and max(size) >= 2 * factor * at_least:
        factor *= 2
    return factor


def _eight_bit(image: Image.Image, path: Path) -> Image.Image:
    """As RGB, or RGBA where something is transparent; no copy of what is so already."""
    _refuse_floats(image, path)
    if image.mode in _SIXTEEN_BIT:
        grey = np.asarray(image).astype(np.float64) / 65535
        return Image.fromarray(np.rint(255 * grey.clip(0, 1)).astype(np.uint8)).convert("RGB")
    mode = "RGBA" if _is_transparent(image) else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _refuse_floats(image: Image.Image, path: Path) -> None:
    rule, found = "have 8 or 16 bits a channel", "floating-point pixels"
    require(image.mode != "F", f"photo {path}", rule, found, "Convert it to PNG or JPEG.")


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def _turned_size(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if orientation(image) in _SIDEWAYS else image.size


def to_be_turned(image: Image.Image, expected: tuple[int, int] | None, exif_ignored: bool = False) -> bool:
    """Whether the EXIF orientation is to be applied, see `read_photo`."""
    if orientation(image) not in range(2, 9):
        return False
    if expected is None or image.size != tuple(expected):
        return True
    return _turned_size(image) == tuple(expected) and not exif_ignored
