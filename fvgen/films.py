"""Frames as bytes, and as an H.264 film."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import InputError, complaint


def image_bytes(image: Tensor) -> np.ndarray:
    """[3, H, W] in [0, 1] as [H, W, 3] uint8."""
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def encode_mp4(frames: Tensor, frames_per_second: int) -> bytes:
    """An H.264 film of frames [F, 3, H, W] in [0, 1]; odd sizes lose their last row or column, as the format asks.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        text = complaint("film", "be written with the package av", f"'{error}'", "pip install av")
        raise InputError(text) from error
    buffer = io.BytesIO()
    height, width = (2 * (size // 2) for size in frames.shape[2:])
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(frames_per_second), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames[..., :height, :width]:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(image_bytes(frame), format="rgb24")))
        film.mux(stream.encode())
    return buffer.getvalue()
