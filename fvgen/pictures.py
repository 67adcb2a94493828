"""Pictures as files: PNGs, contact sheets and H.264 films."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from fvgen.checks import InputError, complaint, require
from fvgen.files import disk_errors, store, whole_file
from fvgen.types import GeneratedViews

_PHOTO_EDGE = torch.tensor([1.0, 0.6, 0.0])
"""Colour of the line around photos."""
_ANOTHER_PLACE = "Free some space or choose another folder."


def image_bytes(image: Tensor) -> np.ndarray:
    """[3, H, W] in [0, 1] as [H, W, 3] uint8."""
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())


def png(pixels: np.ndarray) -> bytes:
    """[H, W] or [H, W, 3 or 4] uint8, or [H, W] uint16, as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)  # of 9: a fourth of the time, files a little larger
    return buffer.getvalue()


def encode_mp4(frames: Tensor, frames_per_second: int) -> bytes:
    """An H.264 film of frames [F, 3, H, W] in [0, 1]; of odd sizes the last row or column stands twice.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        text = complaint("film", "be written with the package av", f"'{error}'", "pip install av")
        raise InputError(text) from error
    buffer = io.BytesIO()
    height, width = (2 * ((size + 1) // 2) for size in frames.shape[2:])
    frames = functional.pad(frames, (0, width - frames.shape[3], 0, height - frames.shape[2]), mode="replicate")
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=Fraction(frames_per_second), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(image_bytes(frame), format="rgb24")))
        film.mux(stream.encode())
    return buffer.getvalue()


def write_contact_sheet(
    path: Path,
    views: GeneratedViews,
    clips: Sequence[Tensor],
    *,
    tile_width: int = 160,
    most_columns: int = 12,
    legend: str = "",
) -> None:
    """A PNG with a row per clip; photos have an orange edge.

    Args:
        path: PNG file.
        views: F frames.
        clips: frame indices [L] of each clip, as from `fvgen.geometry.trajectory.clips_of`.
        tile_width: of a frame in the sheet, in pixels.
        most_columns: longer clips show this many of their frames, evenly chosen, first and last among them.
        legend: line of text below the pictures; none where it is empty.

    Raises:
        InputError: there is nothing to show, or the file cannot be written.
    """
    require(len(clips) > 0 and len(views) > 0, "views", "not be empty", len(views), "Generate some first.")
    tile_height = max(round(tile_width * views.cameras.height / views.cameras.width), 1)
    chosen = [clip[torch.linspace(0, len(clip) - 1, min(len(clip), most_columns)).round().long()] for clip in clips]
    columns = max(len(clip) for clip in chosen)
    edge = max(tile_width // 60, 2)
    cell_height, cell_width = tile_height + 2 * edge, tile_width + 2 * edge
    sheet = torch.ones(3, len(chosen) * cell_height, columns * cell_width)
    for row, clip in enumerate(chosen):
        frames = functional.interpolate(views.rgb[clip].float().cpu(), (tile_height, tile_width), mode="area")
        for column, (frame, number) in enumerate(zip(frames, clip.tolist(), strict=True)):
            cell = sheet[:, row * cell_height :, column * cell_width :][:, :cell_height, :cell_width]
            if bool(views.is_photo[number]):
                cell[:] = _PHOTO_EDGE[:, None, None]
            cell[:, edge : edge + tile_height, edge : edge + tile_width] = frame
    with disk_errors("contact sheet", path, _ANOTHER_PLACE), whole_file(path) as unfinished:
        _with_legend(Image.fromarray(image_bytes(sheet)), legend).save(unfinished, "PNG")


def _with_legend(sheet: Image.Image, legend: str) -> Image.Image:
    """The sheet with a line of text below it."""
    if not legend:
        return sheet
    *_, right, bottom = ImageDraw.Draw(sheet).textbbox((4, 4), legend)
    whole = Image.new("RGB", (max(sheet.width, round(right) + 4), sheet.height + round(bottom) + 4), "white")
    whole.paste(sheet)
    ImageDraw.Draw(whole).text((4, sheet.height + 4), legend, fill="black")
    return whole


def write_mp4(path: Path, frames: Tensor, *, frames_per_second: int = 12) -> None:
    """A film of frames [F, 3, H, W] in [0, 1], see `encode_mp4`.

    Raises:
        InputError: no frames, PyAV is not installed, or the file cannot be written.
    """
    require(len(frames) > 0, "frames", "not be empty", 0, "Generate some first.")
    film = encode_mp4(frames, frames_per_second)
    with disk_errors("film", path, _ANOTHER_PLACE):
        store(path, film)
