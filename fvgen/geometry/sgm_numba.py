"""`fvgen.geometry.sgm.semi_global_cost` in compiled loops: the same sums to the bit, path by path.

The paths of a direction share no pixel, so they are walked by as many threads as there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fvgen.numba_compile import exact_kernel, exact_kernel_part, run_parallel

_DIRECTIONS = ((1, -1), (-1, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (0, 1), (0, -1))
"""Steps down and right, in the order in which torch adds them up."""


def path_costs(cost: Tensor, guide: Tensor, small: float, jump: float, contrast: float) -> Tensor:
    """See `fvgen.geometry.sgm.semi_global_cost`; float32 on the CPU, all dimensions at least 1."""
    total = cost.new_zeros(cost.shape)
    arrays = [t.contiguous().numpy() for t in (cost, guide)]
    rules = [np.float32(value) for value in (small, jump, contrast, 1.5 * small)]
    height, width, _ = cost.shape
    for down, right in _DIRECTIONS:
        paths = height if down == 0 else width + (height - 1 if right else 0)
        run_parallel(add_paths, paths, *arrays, down, right, *rules, total.numpy())
    return total


@exact_kernel_part
def _step(
    before: NDArray[Any],
    lowest: np.float32,
    leap: np.float32,
    small: np.float32,
    cost: NDArray[Any],
    now: NDArray[Any],
    total: NDArray[Any],
) -> None:
    """From a pixel's path costs [D + 2], infinite at both ends, to the next one's, which are added to ``total`` [D]."""
    highest = lowest + leap
    for d in range(len(cost)):
        path = min(before[d], before[d + 2]) + small
        path = min(min(path, before[d + 1]), highest) - lowest + cost[d]
        now[d + 1] = path
        total[d] += path


@exact_kernel_part
def _lowest(values: NDArray[Any]) -> np.float32:
    """Eight chains of minima instead of one, which would wait for each comparison."""
    a = b = c = d = e = f = g = h = np.float32(np.inf)
    whole = len(values) // 8 * 8
    for i in range(0, whole, 8):
        a, b, c, d = min(a, values[i]), min(b, values[i + 1]), min(c, values[i + 2]), min(d, values[i + 3])
        e, f, g, h = min(e, values[i + 4]), min(f, values[i + 5]), min(g, values[i + 6]), min(h, values[i + 7])
    for i in range(whole, len(values)):
        a = min(a, values[i])
    return min(min(min(a, b), min(c, d)), min(min(e, f), min(g, h)))


@exact_kernel_part
def _entry(path: int, down: int, right: int, height: int, width: int) -> tuple[int, int]:
    """Row and column where a path enters: along the first row, then down the side that it comes from."""
    side = 0 if right > 0 else width - 1
    if down == 0:
        return path, side
    if path < width:
        return (0 if down > 0 else height - 1), path
    rows = path - width + 1
    return (rows if down > 0 else height - 1 - rows), side


@exact_kernel
def add_paths(
    first: int,
    last: int,
    cost: NDArray[Any],
    guide: NDArray[Any],
    down: int,
    right: int,
    small: np.float32,
    jump: np.float32,
    contrast: np.float32,
    least: np.float32,
    total: NDArray[Any],
) -> None:
    """Add the costs of the paths ``first`` to ``last`` of one direction.

    Args:
        cost: [H, W, D].
        guide: [H, W].
        down, right: steps of the direction.
        small, jump, contrast: see `fvgen.geometry.sgm.semi_global_cost`.
        least: that a jump costs.
        total: [H, W, D], changed.
    """
    height, width, count = cost.shape
    before, now = np.full(count + 2, np.float32(np.inf)), np.full(count + 2, np.float32(np.inf))
    for path in range(first, last):
        y, x = _entry(path, down, right, height, width)
        before[1:-1] = 0.0
        lowest, grey = np.float32(0), np.float32(0)
        while 0 <= y < height and 0 <= x < width:
            leap = np.float32(1) / (np.float32(1) + abs(guide[y, x] - grey) / contrast) * jump
            _step(before, lowest, max(leap, least), small, cost[y, x], now, total[y, x])
            lowest, grey = _lowest(now[1:-1]), guide[y, x]
            before, now = now, before
            y += down
            x += right
