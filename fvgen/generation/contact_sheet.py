"""Pictures of generated views for people: a contact sheet and a film."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fvgen.checks import InputError, complaint, require
from fvgen.files import store
from fvgen.films import encode_mp4, image_bytes
from fvgen.types import GeneratedViews

_PHOTO_EDGE = torch.tensor([1.0, 0.6, 0.0])
"""Colour of the line around photos."""


def write_contact_sheet(
    path: Path, views: GeneratedViews, clips: Sequence[Tensor], *, tile_width: int = 160, most_columns: int = 12
) -> None:
    """A PNG with a row per clip; photos have an orange edge.

    Args:
        path: PNG file.
        views: F frames.
        clips: frame indices [L] of each clip, as from `fvgen.geometry.trajectory.clips_of`.
        tile_width: of a frame in the sheet, in pixels.
        most_columns: longer clips show this many of their frames, evenly chosen, first and last among them.

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
    buffer = io.BytesIO()
    Image.fromarray(image_bytes(sheet)).save(buffer, "PNG")
    _write(path, buffer.getvalue())


def write_mp4(path: Path, frames: Tensor, *, frames_per_second: int = 12) -> None:
    """An H.264 film of frames [F, 3, H, W] in [0, 1]; odd sizes lose their last row or column, as the format asks.

    Raises:
        InputError: no frames, PyAV is not installed, or the file cannot be written.
    """
    require(len(frames) > 0, "frames", "not be empty", 0, "Generate some first.")
    _write(path, encode_mp4(frames, frames_per_second))


def _write(path: Path, content: bytes) -> None:
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store(path, content)
    except OSError as error:
        size = f"{math.ceil(len(content) / 1024)} KiB"
        text = complaint(str(path), "be writable", f"'{error}'", f"Free {size} or choose another folder.")
        raise InputError(text) from error
