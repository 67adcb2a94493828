"""Colours of procedural scenes: red, green and blue in [0, 1], before light falls on them."""

from __future__ import annotations

import numpy as np

Colour = tuple[float, float, float]


def colour_of(channels: np.ndarray, darkest: float = 0.0) -> Colour:
    """The colour of three channels [3], each clipped to [darkest, 1]."""
    red, green, blue = channels.clip(darkest, 1)
    return float(red), float(green), float(blue)


def blend(first: Colour, second: Colour, share: np.ndarray) -> np.ndarray:
    """[..., 3] from the first colour (share 0) to the second (share 1), by shares [...]."""
    return np.array(first) + share[..., None] * (np.array(second) - np.array(first))
