"""Numba kernels: structural similarity and its gradient, in one pass over the rows each.

Five maps are blurred (both images, their squares and their product) by a separable Gaussian. A row is blurred along x
once, kept among the last eleven, and those are summed along y; no map is ever stored whole. What autograd would do with
band matrices takes four times as long.

The gradient: S depends on the prediction through three blurred maps, so dL/dp = blur(dL/dm_p) + 2 p blur(dL/dm_pp) +
t blur(dL/dm_pt), where the blur is the transposed one: it spreads each window over its pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from fvgen.numba_compile import kernel, kernel_part, run_parallel

_BLOCK = 128
"""Columns at a time; a constant, so that the compiler knows how far apart the planes of `_similarity` are."""
_T, _PP, _TT, _PT, _SLOPE_P, _SLOPE_PP, _SLOPE_PT = (np.uintp(k * _BLOCK) for k in range(1, 8))


@kernel_part
def _add_scaled(scale: np.float32, row: NDArray[Any], out: NDArray[Any]) -> None:
    for x in range(len(out)):
        out[x] += scale * row[x]


@kernel_part
def _add_product(scale: np.float32, first: NDArray[Any], second: NDArray[Any], out: NDArray[Any]) -> None:
    for x in range(len(out)):
        out[x] += scale * first[x] * second[x]


@kernel_part
def _blur_row(window: NDArray[Any], row: NDArray[Any], out: NDArray[Any]) -> None:
    """out[x] = sum_k window[k] row[x + k]"""
    out[:] = 0.0
    for k in range(len(window)):
        _add_scaled(window[k], row[k : k + len(out)], out)


@kernel_part
def _similarity(planes: NDArray[Any], c1: np.float32, c2: np.float32) -> None:
    """From five means to the similarity, which takes the first one's place, and its slopes by three of them.

    ``planes`` [8 x _BLOCK], one after another: the means of p, t, p p, t t and p t; dS by the means of p, p p and p t.
    """
    two = np.float32(2)
    for x in range(_BLOCK):
        i = np.uintp(x)
        p, t = planes[i], planes[i + _T]
        light, light_over = two * p * t + c1, p * p + t * t + c1
        structure, structure_over = two * (planes[i + _PT] - p * t) + c2, planes[i + _PP] + planes[i + _TT]
        structure_over += c2 - p * p - t * t
        inverse = np.float32(1) / (light_over * structure_over)
        similarity = light * structure * inverse
        planes[i] = similarity
        planes[i + _SLOPE_PP] = -similarity * light_over * inverse
        planes[i + _SLOPE_PT] = two * light * inverse
        own = two * p * similarity * (light_over - structure_over) * inverse
        planes[i + _SLOPE_P] = own + two * t * (structure - light) * inverse


@kernel
def similarity_rows(
    first: int,
    last: int,
    prediction: NDArray[Any],
    target: NDArray[Any],
    window: NDArray[Any],
    c1: np.float32,
    c2: np.float32,
    out: NDArray[Any],
) -> None:
    """Rows ``first`` to ``last`` of the maps, counted through the channels.

    Args:
        prediction, target: [C, H, W].
        window: [K] the Gaussian.
        c1, c2: the constants of SSIM.
        out: [4, C, H - K + 1, W - K + 1], written: the similarity and its slopes by the means of p, p p and p t.
    """
    height, width, side = prediction.shape[1], prediction.shape[2], len(window)
    rows, columns = out.shape[2], out.shape[3]
    padded = (columns + _BLOCK - 1) // _BLOCK * _BLOCK
    products = np.empty((5, width), np.float32)
    kept = np.zeros((side, 5, padded), np.float32)  # the last rows, blurred along x
    planes = np.empty(8 * _BLOCK, np.float32)
    loaded = 0
    for item in range(first, last):
        channel, y = item // rows, item % rows
        top = channel * height + y
        for source in range(max(top, loaded), top + side):
            p, t = prediction[channel, source - channel * height], target[channel, source - channel * height]
            products[0], products[1] = p, t
            products[2:] = 0.0
            _add_product(np.float32(1), p, p, products[2])
            _add_product(np.float32(1), t, t, products[3])
            _add_product(np.float32(1), p, t, products[4])
            for q in range(5):
                _blur_row(window, products[q], kept[source % side, q, :columns])
        loaded = top + side
        for left in range(0, columns, _BLOCK):
            planes[:] = 0.0
            for k in range(side):
                for q in range(5):
                    row = kept[(top + k) % side, q, left : left + _BLOCK]
                    _add_scaled(window[k], row, planes[q * _BLOCK : (q + 1) * _BLOCK])
            _similarity(planes, c1, c2)
            count = min(_BLOCK, columns - left)
            out[0, channel, y, left : left + count] = planes[:count]
            for q in range(3):
                out[1 + q, channel, y, left : left + count] = planes[(5 + q) * _BLOCK : (5 + q) * _BLOCK + count]


@kernel
def gradient_rows(
    first: int,
    last: int,
    prediction: NDArray[Any],
    target: NDArray[Any],
    window: NDArray[Any],
    slopes: NDArray[Any],
    incoming: NDArray[Any],
    gradient: NDArray[Any],
) -> None:
    """Rows ``first`` to ``last`` of dL/d(prediction), counted through the channels.

    Args:
        prediction, target: [C, H, W].
        window: [K] the Gaussian, symmetric.
        slopes: [3, C, H - K + 1, W - K + 1] as `similarity_rows` writes them.
        incoming: [C, H - K + 1, W - K + 1] dL/dS.
        gradient: [C, H, W], zeros; written.
    """
    height, width, side = prediction.shape[1], prediction.shape[2], len(window)
    rows, columns = incoming.shape[1], incoming.shape[2]
    wide = np.zeros(columns + 2 * (side - 1), np.float32)  # a row of a map between zeros
    kept = np.zeros((side, 3, width), np.float32)
    sums = np.empty((3, width), np.float32)
    loaded = 0
    for item in range(first, last):
        channel, y = item // height, item % height
        lowest, highest = max(y - side + 1, 0), min(y, rows - 1)
        for row in range(max(lowest, loaded - channel * rows), highest + 1):
            for q in range(3):
                inner = wide[side - 1 : side - 1 + columns]
                inner[:] = 0.0
                _add_product(np.float32(1), slopes[q, channel, row], incoming[channel, row], inner)
                _blur_row(window, wide, kept[(channel * rows + row) % side, q])
        loaded = channel * rows + highest + 1
        sums[:] = 0.0
        for row in range(lowest, highest + 1):
            for q in range(3):
                _add_scaled(window[y - row], kept[(channel * rows + row) % side, q], sums[q])
        own = gradient[channel, y]
        own[:] = sums[0]
        _add_product(np.float32(2), prediction[channel, y], sums[1], own)
        _add_product(np.float32(1), target[channel, y], sums[2], own)


class CompiledSimilarity(torch.autograd.Function):
    """``(prediction, target, window, c1, c2)`` -> SSIM per pixel, differentiable by the prediction.

    [C, H, W] float32 on the CPU, contiguous; see `fvgen.metrics.ssim_map`.
    """

    @staticmethod
    def forward(ctx: Any, prediction: Tensor, target: Tensor, window: Tensor, c1: float, c2: float) -> Tensor:
        channels, height, width = prediction.shape
        rows, columns = height - len(window) + 1, width - len(window) + 1
        out = prediction.new_empty(4, channels, rows, columns)
        arrays = [t.detach().numpy() for t in (prediction, target, window)]
        run_parallel(similarity_rows, channels * rows, *arrays, np.float32(c1), np.float32(c2), out.numpy())
        ctx.save_for_backward(prediction, target, window, out[1:])
        return out[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None, None, None, None]:
        arrays = [t.detach().numpy() for t in ctx.saved_tensors]
        gradient = torch.zeros_like(ctx.saved_tensors[0])
        run_parallel(
            gradient_rows,
            gradient.shape[0] * gradient.shape[1],
            *arrays,
            incoming.contiguous().numpy(),
            gradient.numpy(),
        )
        return gradient, None, None, None, None
