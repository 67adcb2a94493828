"""Numba kernel of the point renderers on the CPU: the nearest discs of every pixel, equal to torch's bit for bit."""

from __future__ import annotations

import math

import numpy as np

from fvgen.rendering.numba_compile import exact_kernel


@exact_kernel
def nearest_discs(uv, reach, window, width, index, share, filled):
    """Deal discs to the pixels whose centres they cover, until these have as many as they may.

    Args:
        uv: [N, 2] float64, in pixels, nearest first.
        reach: radius in pixels, float64.
        window: pixel centres in a row that a disc can cover.
        width: of the picture.
        index: [H * W, K] int64, written: row of uv.
        share: [H * W, K] float32, written: squared distance from pixel centre over squared radius.
        filled: [H * W] int64, zeros: how many discs each pixel has.
    """
    height = len(filled) // width
    per_pixel = index.shape[1]
    radius = np.float32(reach)
    squared = np.empty(window, np.float32)
    for i in range(len(uv)):
        first_x = math.ceil(uv[i, 0] - (reach + 0.5))
        first_y = math.ceil(uv[i, 1] - (reach + 0.5))
        for step in range(window):
            distance = np.float32((first_x + 0.5 - uv[i, 0]) + step) / radius
            squared[step] = distance * distance
        for down in range(window):
            y = int(first_y) + down
            if y < 0 or y >= height:
                continue
            distance = np.float32((first_y + 0.5 - uv[i, 1]) + down) / radius
            y_squared = distance * distance
            for step in range(window):
                x = int(first_x) + step
                d2 = y_squared + squared[step]
                if x < 0 or x >= width or not d2 < 1:
                    continue
                pixel = y * width + x
                slot = filled[pixel]
                if slot < per_pixel:
                    index[pixel, slot] = i
                    share[pixel, slot] = d2
                    filled[pixel] = slot + 1
