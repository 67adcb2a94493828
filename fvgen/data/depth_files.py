"""Measured depth as Nerfstudio stores it: 16-bit PNG or TIFF, or .npy, in steps of a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fvgen.checks import InputError, complaint, require
from fvgen.data.photos import same_shape

_ALIGN = "Align depth to colour first, or remove depth_file_path from the frame."


def depth_size(path: Path) -> tuple[int, int]:
    """(width, height) of a depth file, from its header.

    Raises:
        InputError: missing, damaged, or not one channel.
    """
    if path.suffix == ".npy":
        height, width = _array(path, mmap_mode="r").shape
        return width, height
    with _image(path) as image:
        return image.size


def check_depth_size(path: Path, size: tuple[int, int]) -> None:
    """Refuse a depth file of another shape than its photo of (width, height); fewer pixels are fine."""
    width, height = depth_size(path)
    require(
        same_shape((width, height), size),
        f"depth {path}",
        f"have the shape of its photo ({size[0]}x{size[1]})",
        f"{width}x{height}",
        _ALIGN,
    )


def read_depth(path: Path, unit: float) -> np.ndarray:
    """Depth along the viewing axis.

    Args:
        path: .npy, or an image of one channel.
        unit: scene units of one step.

    Returns:
        [H, W] float32 in scene units, 0 where unknown.

    Raises:
        InputError: missing, damaged, or not one channel.
    """
    if path.suffix == ".npy":
        raw = _array(path)
    else:
        with _image(path) as image:
            try:
                raw = np.asarray(image)
            except Exception as error:  # Pillow's decoders raise errors of many kinds on damaged files
                raise InputError(
                    complaint(f"depth {path}", "be a whole image", f"'{error}'", "Copy it again.")
                ) from error
    depth = raw.astype(np.float64) * unit
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _array(path: Path, mmap_mode: str | None = None) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)  # type: ignore[arg-type]
    except (OSError, ValueError, EOFError) as error:
        raise InputError(complaint(f"depth {path}", "be a whole .npy file", f"'{error}'", "Copy it again.")) from error
    require(array.ndim == 2 and array.size > 0, f"depth {path}", "have shape [H, W]", array.shape, _ALIGN)
    require(
        np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating),
        f"depth {path}",
        "hold whole or floating-point numbers",
        array.dtype,
        "Store it as float32.",
    )
    return array


def _image(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except Exception as error:  # as for decoding: headers can be damaged in any way
        text = complaint(f"depth {path}", "be an image or .npy file", f"'{error}'", "Store it as a 16-bit PNG.")
        raise InputError(text) from error
    with_one_channel = len(image.getbands()) == 1 and image.mode != "P"
    require(with_one_channel, f"depth {path}", "have one channel", image.mode, "Store it as a 16-bit greyscale PNG.")
    return image
