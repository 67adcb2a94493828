"""Thumbnails of photos, for the page of ``fvgen app``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from fvgen.checks import InputError
from fvgen.data.photos import read_photo

_MOST, _COLUMNS = 12, 4
_TILE = (120, 90)
"""Width and height of one, in pixels."""


def thumbnails(photos: Sequence[Path]) -> torch.Tensor | None:
    """[3, H, W] in [0, 1] the first photos side by side; None without any that can be read."""
    tiles = [tile for photo in photos[:_MOST] if (tile := _tile(photo)) is not None]
    if not tiles:
        return None
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % _COLUMNS)
    rows = [np.concatenate(tiles[i : i + _COLUMNS], axis=1) for i in range(0, len(tiles), _COLUMNS)]
    return torch.from_numpy(np.concatenate(rows)).permute(2, 0, 1) / 255


def _tile(photo: Path) -> np.ndarray | None:
    """[h, w, 3] uint8 of one photo, upright; None where it cannot be read."""
    try:
        pixels = read_photo(photo)[..., :3]
    except InputError:
        return None
    return np.asarray(ImageOps.pad(Image.fromarray(pixels), _TILE, color=(0, 0, 0)))
