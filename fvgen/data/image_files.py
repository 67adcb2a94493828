"""Picture files before their pixels are decoded: opened, turned, whole or cut off."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import IO

from PIL import Image

from fvgen.checks import InputError, complaint, require

_ORIENTATION = 0x0112
"""EXIF tag: how the stored pixels must be turned to stand upright."""
_MOST_PIXELS = 500_000_000
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


# Pillow takes 179 megapixels for an attack; phones make 200.
Image.MAX_IMAGE_PIXELS = _MOST_PIXELS


def open_image(path: Path, what: str = "photo") -> Image.Image:
    """A picture of any kind, its pixels not yet decoded; an error calls it ``what``.

    Raises:
        InputError: missing, no image, too large, or HEIC without pillow-heif.
    """
    require(path.is_file(), what, "be an existing file", path, "Put the file there or drop its frame.")
    shrink = "Shrink it, and its intrinsics with it."
    most = f"have at most {_MOST_PIXELS // 1_000_000} megapixels"
    try:
        if _is_heif(path):
            _read_heif_from_now_on(f"{what} {path}")
        image = Image.open(path)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(complaint(f"{what} {path}", most, "more than twice as many", shrink)) from error
    except Exception as error:  # as for decoding: headers can be damaged in any way
        text = complaint(f"{what} {path}", "be an image that Pillow reads", f"'{error}'", "Convert it to PNG or JPEG.")
        raise InputError(text) from error
    pixels = image.width * image.height
    require(pixels <= _MOST_PIXELS, f"{what} {path}", most, f"{pixels / 1e6:.0f}", shrink)
    return image


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


@cache
def _heif_opener_registered() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _read_heif_from_now_on(name: str) -> None:
    require(
        _heif_opener_registered(),
        name,
        "be an image that Pillow reads",
        "HEIC, which takes pillow-heif",
        "Install it: pip install 'fvgen-nerfstudio[poses]', or convert the photo to JPEG.",
    )


def load(image: Image.Image, path: Path, what: str = "photo") -> Image.Image:
    """``image`` with its pixels decoded; an error calls it ``what``.

    Raises:
        InputError: it is truncated or damaged.
    """
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
        text = complaint(f"{what} {path}", "be a whole image", f"'{error}'", "Copy the file again.")
        raise InputError(text) from error
    return image


def orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1, upright, without one."""
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


def ends_as_it_should(path: Path, kind: str | None) -> bool:
    """Whether a file shows to be whole without being decoded."""
    if kind == "PNG":
        try:
            with Image.open(path) as image:
                image.verify()
        except Exception:  # as for decoding
            return False
        return True
    return kind in ("JPEG", "MPO") and _jpeg_ends(path.read_bytes())


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end of a JPEG follows its pixels; a thumbnail's, which stands in a segment before them, is none."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
