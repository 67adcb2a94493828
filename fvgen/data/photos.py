"""Photos as users have them: grey, 16-bit, RGBA, palette and EXIF-rotated files, all as 8-bit RGB or RGBA."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fvgen.checks import InputError, complaint, require

_ORIENTATION = 0x0112
"""EXIF tag: how the stored pixels must be turned to stand upright."""
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N", "I"}


def _open(path: Path) -> Image.Image:
    require(path.is_file(), "photo", "be an existing file", path, "Put the file there or drop its frame.")
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise InputError(complaint("photo", "be an image file", f"{path} ({error})", "Replace the file.")) from error


def _upright(image: Image.Image, expected: tuple[int, int] | None) -> bool:
    """Whether the EXIF orientation is to be applied.

    Intrinsics made by a tool that honours EXIF fit the turned photo, those of one that ignores it (COLMAP) the stored
    one; where both sizes fit, the turned photo is what its owner saw.
    """
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation == 1:
        return False
    swaps = orientation in (5, 6, 7, 8)
    turned = image.size[::-1] if swaps else image.size
    return expected is None or turned == expected or image.size != expected


def photo_size(path: Path, expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) in pixels from the file's header, EXIF orientation honoured as `read_photo` does.

    Raises:
        InputError: the file is missing or no image.
    """
    with _open(path) as image:
        swaps = _upright(image, expected) and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return image.size[::-1] if swaps else image.size


def check_photo_size(path: Path, expected: tuple[int, int]) -> None:
    """Refuse a photo of another (width, height) than its intrinsics say."""
    size = photo_size(path, expected)
    require(
        size == tuple(expected),
        f"photo {path.name}", f"be {expected[0]}x{expected[1]} pixels as its intrinsics say", f"{size[0]}x{size[1]}",
        "Use the photo that the poses were made from, or run ns-process-data again.",
    )  # fmt: skip


def read_photo(path: Path, expected: tuple[int, int] | None = None) -> np.ndarray:
    """The photo's pixels.

    Args:
        path: any file that Pillow reads.
        expected: (width, height) that its intrinsics say.

    Returns:
        [H, W, 3] uint8, or [H, W, 4] when the photo has transparency.

    Raises:
        InputError: missing, truncated, no image, or of another size than expected.
    """
    if expected is not None:
        check_photo_size(path, expected)
    with _open(path) as image:
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:
            text = complaint("photo", "be a whole image", f"{path} ({error})", "Copy the file again.")
            raise InputError(text) from error
        turned = ImageOps.exif_transpose(image) if _upright(image, expected) else image
        if turned.mode in _SIXTEEN_BIT:
            grey = np.asarray(turned).astype(np.float64) / 65535
            return np.repeat(np.rint(255 * grey.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=2)
        transparent = turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info
        return np.asarray(turned.convert("RGBA" if transparent else "RGB"))
