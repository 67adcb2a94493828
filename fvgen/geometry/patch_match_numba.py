"""The compiled loops of `fvgen.geometry.patch_match`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvgen.numba_compile import kernel, kernel_part

Scene = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
Rules = tuple[int, np.float32, np.float32, np.float32]

_FARTHEST_RETURN = np.float32(3.0)
"""Pixels; a point that returns from another photo farther away than this is simply wrong."""


@kernel_part
def _window(
    grey: NDArray[Any], x: int, y: int, radius: int, stride: int, contrast: np.float32, window: NDArray[Any]
) -> tuple[int, np.float32, np.float32]:
    """The pixels of a window that may belong to one surface with its middle, and what the correlation needs of them.

    Args:
        grey: [H, W], NaN for missing pixels.
        contrast: grey difference at which a pixel's weight falls to 1/e.
        window: [4, K], written: offsets right and down, weights that sum to 1, and grey values.

    Returns:
        how many pixels, and their weighted mean and variance.
    """
    height, width = grey.shape
    middle = grey[y, x]
    count, total, mean, square = 0, np.float32(0), np.float32(0), np.float32(0)
    fall = np.float32(-2.0) / np.float32(radius * radius)  # to 1/e^2 at the window's side
    for down in range(-radius, radius + 1, stride):
        for right in range(-radius, radius + 1, stride):
            i, j = y + down, x + right
            if not (0 <= i < height and 0 <= j < width and grey[i, j] == grey[i, j]):
                continue
            value = grey[i, j]
            weight = np.exp(fall * np.float32(right * right + down * down) - abs(value - middle) / contrast)
            window[0, count], window[1, count] = right, down
            window[2, count], window[3, count] = weight, value
            total += weight
            mean += weight * value
            square += weight * value * value
            count += 1
    mean, square = mean / total, square / total
    for k in range(count):
        window[2, k] /= total
    return count, mean, max(square - mean * mean, np.float32(0))


@kernel_part
def _correlation(
    image: NDArray[Any],
    infinity: NDArray[Any],
    parallax: NDArray[Any],
    x: int,
    y: int,
    plane: NDArray[Any],
    window: NDArray[Any],
    count: int,
    mean: np.float32,
    variance: np.float32,
    floor: np.float32,
) -> np.float32:
    """Correlation of a window with a neighbour's pixels on a plane through it; NaN where the neighbour misses one."""
    height, width = image.shape
    u, v, near = np.float32(x + 0.5), np.float32(y + 0.5), plane[0]
    # the surface is a plane, so a step of one pixel moves the homogeneous place by the same amount everywhere
    px = infinity[0, 0] * u + infinity[0, 1] * v + infinity[0, 2] + parallax[0] * near
    py = infinity[1, 0] * u + infinity[1, 1] * v + infinity[1, 2] + parallax[1] * near
    pz = infinity[2, 0] * u + infinity[2, 1] * v + infinity[2, 2] + parallax[2] * near
    rx, dx = infinity[0, 0] + parallax[0] * plane[1], infinity[0, 1] + parallax[0] * plane[2]
    ry, dy = infinity[1, 0] + parallax[1] * plane[1], infinity[1, 1] + parallax[1] * plane[2]
    rz, dz = infinity[2, 0] + parallax[2] * plane[1], infinity[2, 1] + parallax[2] * plane[2]
    half, right, down = np.float32(0.5), np.float32(width - 1), np.float32(height - 1)
    value, square, product = np.float32(0), np.float32(0), np.float32(0)
    for k in range(count):
        h, w, weight = window[0, k], window[1, k], window[2, k]
        z = pz + rz * h + dz * w
        if not z > np.float32(1e-6):
            return np.float32(np.nan)
        over = np.float32(1) / z
        a, b = (px + rx * h + dx * w) * over - half, (py + ry * h + dy * w) * over - half
        if not (0 <= a < right and 0 <= b < down):
            return np.float32(np.nan)
        i, j = np.uint32(b), np.uint32(a)
        part, lower = a - np.float32(j), b - np.float32(i)
        top = image[i, j] + part * (image[i, j + np.uint32(1)] - image[i, j])
        i += np.uint32(1)
        bottom = image[i, j] + part * (image[i, j + np.uint32(1)] - image[i, j])
        sample = top + lower * (bottom - top)
        value += weight * sample
        square += weight * sample * sample
        product += weight * sample * window[3, k]
    spread = max(square - value * value, np.float32(0)) + floor
    correlation: np.float32 = (product - value * mean) / np.sqrt(spread * (variance + floor))
    return correlation


@kernel_part
def _return_error(
    near_there: NDArray[Any],
    infinity: NDArray[Any],
    parallax: NDArray[Any],
    back_infinity: NDArray[Any],
    back_parallax: NDArray[Any],
    x: int,
    y: int,
    near: np.float32,
) -> np.float32:
    """Pixels between (x, y) and where it returns from a neighbour, carried back at the inverse depth found there."""
    height, width = near_there.shape
    u, v = np.float32(x + 0.5), np.float32(y + 0.5)
    z = infinity[2, 0] * u + infinity[2, 1] * v + infinity[2, 2] + parallax[2] * near
    if not z > np.float32(1e-6):
        return _FARTHEST_RETURN
    a = (infinity[0, 0] * u + infinity[0, 1] * v + infinity[0, 2] + parallax[0] * near) / z
    b = (infinity[1, 0] * u + infinity[1, 1] * v + infinity[1, 2] + parallax[1] * near) / z
    if not (0 <= a < width and 0 <= b < height):
        return _FARTHEST_RETURN
    found = near_there[int(b), int(a)]
    z = back_infinity[2, 0] * a + back_infinity[2, 1] * b + back_infinity[2, 2] + back_parallax[2] * found
    if not (found > 0 and z > np.float32(1e-6)):
        return _FARTHEST_RETURN
    right = back_infinity[0, 0] * a + back_infinity[0, 1] * b + back_infinity[0, 2] + back_parallax[0] * found
    down = back_infinity[1, 0] * a + back_infinity[1, 1] * b + back_infinity[1, 2] + back_parallax[1] * found
    right, down = right / z - u, down / z - v
    return min(np.sqrt(right * right + down * down), _FARTHEST_RETURN)


@kernel_part
def _plane_score(
    scene: Scene,
    x: int,
    y: int,
    plane: NDArray[Any],
    window: NDArray[Any],
    count: int,
    mean: np.float32,
    variance: np.float32,
    rules: Rules,
) -> np.float32:
    """Mean of the best correlations of a plane over the neighbours, less what they lack in consistency."""
    images, infinity, parallax, near_there, back_infinity, back_parallax = scene
    best, absent, floor, consistency = rules
    first, second = np.float32(-np.inf), np.float32(-np.inf)
    for s in range(len(images)):
        score = _correlation(images[s], infinity[s], parallax[s], x, y, plane, window, count, mean, variance, floor)
        score = score if score == score else absent
        if consistency > 0:
            score -= consistency * _return_error(
                near_there[s], infinity[s], parallax[s], back_infinity[s], back_parallax[s], x, y, plane[0]
            )
        second = max(second, min(score, first))
        first = max(score, first)
    return first if best == 1 else (first + second) * np.float32(0.5)


@kernel
def improve(
    first: int,
    last: int,
    colour: int,
    grey: NDArray[Any],
    scene: Scene,
    rules: Rules,
    radius: int,
    stride: int,
    contrast: np.float32,
    offsets: NDArray[Any],
    noise: NDArray[Any],
    limits: tuple[np.float32, np.float32],
    steepest: np.float32,
    planes: NDArray[Any],
    scores: NDArray[Any],
) -> None:
    """Give the pixels of one colour of a chessboard the best of their own, some neighbours' and some random planes.

    Args:
        first, last: rows.
        colour: 0 or 1.
        grey: [H, W] of the reference, NaN for missing pixels.
        scene: of S neighbours their images [S, H, W], `fvgen.geometry.correlation.source_pixels` into them
            [S, 3, 3] and [S, 3], their inverse depth [S, H, W] (0 where unknown), and the way back from them.
        rules: how many neighbours count (1 or 2), the correlation that stands for none, the floor added to variances,
            and the correlation that a pixel of return error costs.
        radius, stride, contrast: of the window, see `_window`.
        offsets: [N, 2] right and down to the neighbours whose planes are tried, all of the other colour.
        noise: [T, 3, H, W], relative changes of the planes tried at random.
        limits: lowest and highest inverse depth.
        steepest: largest change of inverse depth from pixel to pixel, relative to the inverse depth.
        planes: [3, H, W] inverse depth and its change right and down, changed.
        scores: [H, W], written.
    """
    height, width = grey.shape
    window = np.empty((4, (2 * radius // stride + 1) ** 2), np.float32)
    kept, tried = np.empty(3, np.float32), np.empty(3, np.float32)
    for y in range(first, last):
        for x in range((y + colour) % 2, width, 2):
            if grey[y, x] != grey[y, x]:  # NaN
                continue
            count, mean, variance = _window(grey, x, y, radius, stride, contrast, window)
            kept[0], kept[1], kept[2] = planes[0, y, x], planes[1, y, x], planes[2, y, x]
            highest = _plane_score(scene, x, y, kept, window, count, mean, variance, rules)
            for k in range(len(offsets) + len(noise)):
                if k < len(offsets):
                    right, down = offsets[k, 0], offsets[k, 1]
                    i, j = y + down, x + right
                    if not (0 <= i < height and 0 <= j < width):
                        continue
                    tried[1], tried[2] = planes[1, i, j], planes[2, i, j]
                    tried[0] = planes[0, i, j] - tried[1] * right - tried[2] * down
                else:
                    change = noise[k - len(offsets), :, y, x]
                    tried[0] = kept[0] * (1 + change[0])
                    tried[1] = kept[1] + tried[0] * steepest * change[1]
                    tried[2] = kept[2] + tried[0] * steepest * change[2]
                steep = steepest * tried[0]
                if not (limits[0] <= tried[0] <= limits[1] and abs(tried[1]) <= steep and abs(tried[2]) <= steep):
                    continue
                score = _plane_score(scene, x, y, tried, window, count, mean, variance, rules)
                if score > highest:
                    highest = score
                    kept[0], kept[1], kept[2] = tried[0], tried[1], tried[2]
            planes[0, y, x], planes[1, y, x], planes[2, y, x] = kept[0], kept[1], kept[2]
            scores[y, x] = highest
