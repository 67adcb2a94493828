"""A frame's files in memory: decoded once, for the checks and for all that works on the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvgen.data.capture import CaptureFrame
from fvgen.data.depth_files import read_depth
from fvgen.data.masks import frame_mask, require_white
from fvgen.data.photos import opaque_pixels, read_photo, require_visible


@dataclass(frozen=True)
class DecodedFrame:
    """A photo, its mask and its measured depth."""

    frame: CaptureFrame
    pixels: np.ndarray
    """[H, W, 3 or 4] uint8, turned as pose and intrinsics have it; smaller than the frame's size where the photo has
    very many pixels."""
    mask: np.ndarray | None
    """[H, W] bool: where the photo counts; None where it counts whole."""
    depth: np.ndarray | None
    """[h, w] float32 in scene units, 0 where unknown, of its file's own size."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def decode_frame(frame: CaptureFrame, depth_unit: float, *, at_least: int | None = None) -> DecodedFrame:
    """Decode a frame's files to their ends.

    Args:
        frame: the photo.
        depth_unit: scene units of one step of a depth file.
        at_least: longest side that is needed; None gives all pixels, however many (`fvgen.data.photos.read_photo`).

    Raises:
        InputError: one of the files is truncated or otherwise damaged, or they leave no pixel that counts.
    """
    pixels = read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored, at_least=at_least)
    require_visible(frame.photo, pixels.shape[2] == 3 or bool(pixels[..., 3].any()))
    mask = None
    if frame.mask is not None:
        own = frame.mask == frame.photo
        mask = opaque_pixels(pixels) if own else frame_mask(frame, (pixels.shape[1], pixels.shape[0]))
        require_white(frame.mask, mask)
    depth = None if frame.depth is None else read_depth(frame.depth, depth_unit)
    return DecodedFrame(frame, pixels, mask, depth)
