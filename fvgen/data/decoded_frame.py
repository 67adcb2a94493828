"""A frame's files in memory: decoded once, for the checks and for all that works on the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.depth_files import read_depth
from fvgen.data.photos import read_photo


@dataclass(frozen=True)
class DecodedFrame:
    """A photo, its mask and its measured depth."""

    frame: CaptureFrame
    pixels: np.ndarray
    """[H, W, 3 or 4] uint8, upright, of the frame's size."""
    mask: np.ndarray | None
    """[H, W] bool: where the photo counts; None where it counts whole."""
    depth: np.ndarray | None
    """[h, w] float32 in scene units, 0 where unknown, of its file's own size."""


def decode_frame(frame: CaptureFrame, depth_unit: float) -> DecodedFrame:
    """Decode a frame's files to their ends.

    Args:
        frame: the photo.
        depth_unit: scene units of one step of a depth file.

    Raises:
        InputError: one of the files is truncated or otherwise damaged, or they leave no pixel that counts.
    """
    pixels = read_photo(frame.photo, frame.size)
    require(
        pixels.shape[2] == 3 or bool(pixels[..., 3].any()),
        f"photo {frame.photo}",
        "have visible pixels",
        "a wholly transparent one",
        "Leave its frame out.",
    )
    depth = None if frame.depth is None else read_depth(frame.depth, depth_unit)
    return DecodedFrame(frame, pixels, read_mask(frame), depth)


def read_mask(frame: CaptureFrame) -> np.ndarray | None:
    """[H, W] bool: where the photo counts; None where it counts whole.

    Raises:
        InputError: the mask is damaged, of another size than the photo, or leaves nothing of it.
    """
    if frame.mask is None:
        return None
    mask = read_photo(frame.mask, frame.size)[..., 0] > 127
    require(
        bool(mask.any()),
        f"mask {frame.mask}",
        "be white where the photo counts",
        "a wholly black one",
        "Invert the mask, or leave its frame out.",
    )
    return mask
