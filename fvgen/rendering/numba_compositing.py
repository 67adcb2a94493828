"""Numba kernels: front-to-back alpha compositing of depth-sorted splats, one tile per work item, and its gradient.

What makes it fast: the splat is the outer loop and the pixels the inner one, over contiguous arrays in a function of
its own, so it vectorises; a splat visits only the rows and the half tile it can reach; exp is a polynomial. The
backward pass walks front to back too: what lies behind a splat is the final colour minus what has been passed.

What belongs together comes as one tuple. ``seen`` are means2d [C N, 2], splats [C N, 8] and pixel boxes [C N, 4] of
`fvgen.rendering.numba_projection`; ``picture`` is rgb [C, H, W, 3] over the background, transmittance [C, H, W] and
depth [C, H, W] (weighted, not normalised); ``limits`` are the least alpha that is drawn, the largest alpha, and the
transmittance at which a pixel is finished.
"""

from __future__ import annotations

import numpy as np

from fvgen.numba_compile import kernel, kernel_part

GRADIENTS = 12
"""Sums per (splat, tile) pair: dL/d(red, green, blue, depth); the moments 1, x, y, xx, xy, yy of dL/dsigma over the
pixels' offsets; the absolute dL/dx and dL/dy."""
TILE = 16
"""Pixels on a side of a tile. A constant of this file, so that the compiler knows how far apart the planes are."""
_PLANE = TILE * TILE
# Where the planes of a tile begin. Unsigned: a signed index could be negative, and checking that stops vectorisation.
_Y, _THROUGH, _RED, _GREEN, _BLUE, _DEPTH, _BEHIND = (np.uintp(k * _PLANE) for k in range(1, 8))
_STRIP = 8  # a tile's pixels lie in memory as strips of this many columns, row after row
_LIVELINESS_EVERY = 16  # splats between two looks whether any pixel of the tile still takes light


def _exp_coefficients():
    """Degree 5 in sigma / 8 over [0, 0.7], interpolated at Chebyshev nodes."""
    nodes = 0.35 - 0.35 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
    return tuple(np.polyfit(nodes, np.exp(-nodes), 5).astype(np.float32))


_E5, _E4, _E3, _E2, _E1, _E0 = _exp_coefficients()


@kernel_part
def _exp_minus(sigma):
    """exp(-sigma) for sigma in [0, 5.6]; beyond that no splat reaches an alpha of 1/255, so it is held there.

    Below 0 only rounding leads, and exp is 1.
    """
    x = min(max(sigma, np.float32(0)), np.float32(5.6)) * np.float32(0.125)
    y = ((((_E5 * x + _E4) * x + _E3) * x + _E2) * x + _E1) * x + _E0
    y *= y
    y *= y
    return y * y


@kernel_part
def _draw(limits, first, count, x, y, splat, planes):
    """Composite one splat onto ``count`` pixels from ``first`` on.

    A pixel is finished by the splat that would take its transmittance to the minimum; it draws neither that one nor any
    after it, which the sign of the transmittance remembers.

    ``planes`` [7 x pixels], one after another: x, y, transmittance, red, green, blue, depth. They share one array, at
    distances that the compiler knows: otherwise it has to compare all their addresses before each loop.
    """
    alpha_min, alpha_max, transmittance_min = limits
    half_xx, xy, half_yy, opacity = np.float32(0.5) * splat[0], splat[1], np.float32(0.5) * splat[2], splat[3]
    red, green, blue, depth = splat[4], splat[5], splat[6], splat[7]
    for k in range(count):
        p = first + k
        dx, dy = x - planes[p], y - planes[p + _Y]
        alpha = min(opacity * _exp_minus((half_xx * dx + xy * dy) * dx + half_yy * dy * dy), alpha_max)
        before = planes[p + _THROUGH]
        weight = alpha * before
        after = before - weight
        drawn, going = alpha >= alpha_min, after > transmittance_min
        weight = weight if drawn & going else np.float32(0)
        stopped = after if going else min(before, -before)
        planes[p + _THROUGH] = stopped if drawn else before
        planes[p + _RED] += weight * red
        planes[p + _GREEN] += weight * green
        planes[p + _BLUE] += weight * blue
        planes[p + _DEPTH] += weight * depth


@kernel_part
def _draw_backward(limits, grad_depth, absolute, first, count, x, y, splat, planes, out):
    """Gradient of `_draw` with respect to the splat, added to the `GRADIENTS` sums of ``out``.

    Where ``grad_depth`` or ``absolute`` is None, what it needs is left out when compiling.

    ``planes`` [8 x pixels]: x, y, transmittance, the gradients of red, green, blue and depth, and the
    gradient-weighted light that is still to come.
    """
    alpha_min, alpha_max, transmittance_min = limits
    half_xx, xy, half_yy, opacity = np.float32(0.5) * splat[0], splat[1], np.float32(0.5) * splat[2], splat[3]
    red, green, blue, depth = splat[4], splat[5], splat[6], splat[7]
    sum_red = sum_green = sum_blue = sum_depth = np.float32(0)
    m0 = mx = my = mxx = mxy = myy = abs_x = abs_y = np.float32(0)
    for k in range(count):
        p = first + k
        dx, dy = x - planes[p], y - planes[p + _Y]
        raw = opacity * _exp_minus((half_xx * dx + xy * dy) * dx + half_yy * dy * dy)
        alpha = min(raw, alpha_max)
        before = planes[p + _THROUGH]
        weight = alpha * before
        after = before - weight
        drawn, going = alpha >= alpha_min, after > transmittance_min
        lit = drawn & going
        weight = weight if lit else np.float32(0)
        alpha = alpha if lit else np.float32(0)
        stopped = after if going else min(before, -before)
        planes[p + _THROUGH] = stopped if drawn else before
        gr, gg, gb = planes[p + _RED], planes[p + _GREEN], planes[p + _BLUE]
        own = red * gr + green * gg + blue * gb
        if grad_depth is not None:
            own += depth * planes[p + _DEPTH]
            sum_depth += weight * planes[p + _DEPTH]
        own *= weight
        rest = planes[p + _BEHIND] - own
        planes[p + _BEHIND] = rest
        # dL/dsigma = -alpha dL/dalpha; a capped alpha does not answer to sigma
        ds = alpha * rest / (np.float32(1) - alpha) - own
        ds = ds if raw <= alpha_max else np.float32(0)
        sum_red += weight * gr
        sum_green += weight * gg
        sum_blue += weight * gb
        hx, hy = ds * dx, ds * dy
        m0 += ds
        mx += hx
        my += hy
        mxx += hx * dx
        mxy += hx * dy
        myy += hy * dy
        if absolute is not None:
            abs_x += abs(half_xx * hx + half_xx * hx + xy * hy)
            abs_y += abs(half_yy * hy + half_yy * hy + xy * hx)
    out[0] += sum_red
    out[1] += sum_green
    out[2] += sum_blue
    out[3] += sum_depth
    out[4] += m0
    out[5] += mx
    out[6] += my
    out[7] += mxx
    out[8] += mxy
    out[9] += myy
    out[10] += abs_x
    out[11] += abs_y


@kernel_part
def _any_alive(planes):
    highest = np.float32(0)
    for p in range(2 * _PLANE, 3 * _PLANE):
        highest = max(highest, planes[p])
    return highest > 0


@kernel_part
def _pixel_of(row, column):
    return column // _STRIP * (_STRIP * TILE) + row * _STRIP + column % _STRIP


@kernel_part
def _new_planes(count, x0, y0):
    """``count`` arrays over a tile's pixels: the pixel centres' x and y, full transmittance, then zeros."""
    planes = np.zeros(count * _PLANE, np.float32)
    for row in range(TILE):
        for column in range(TILE):
            p = _pixel_of(row, column)
            planes[p] = np.float32(x0 + column) + np.float32(0.5)
            planes[p + _PLANE] = np.float32(y0 + row) + np.float32(0.5)
            planes[p + 2 * _PLANE] = np.float32(1)
    return planes


@kernel_part
def _runs(box, x0, y0):
    """Where a pixel box lies in a tile: first and one-past-last strip; within a strip the first pixel and a count."""
    row0, row1 = max(box[2] - y0, 0), min(box[3] - y0, TILE)
    strip0, strip1 = max(box[0] - x0, 0) // _STRIP, (min(box[1] - x0, TILE) - 1) // _STRIP + 1
    return strip0, strip1, np.uintp(row0 * _STRIP), np.uintp((row1 - row0) * _STRIP)


@kernel_part
def _draw_tile(c, x0, y0, first, last, seen, splat_of, limits, background, picture):
    """Draw the splats at positions ``first`` to ``last``; returns one past the last position that could be seen."""
    means2d, splats, boxes = seen
    rgb, transmittance, depth = picture
    planes = _new_planes(7, x0, y0)
    for position in range(first, last):
        s = splat_of[position]
        strip0, strip1, start, count = _runs(boxes[s], x0, y0)
        for strip in range(strip0, strip1):
            shift = np.uintp(strip * _STRIP * TILE)
            _draw(limits, start + shift, count, means2d[s, 0], means2d[s, 1], splats[s], planes)
        if (position - first) % _LIVELINESS_EVERY == _LIVELINESS_EVERY - 1 and not _any_alive(planes):
            last = position + 1
            break
    for row in range(min(TILE, rgb.shape[1] - y0)):
        for column in range(min(TILE, rgb.shape[2] - x0)):
            p, y, x = _pixel_of(row, column), y0 + row, x0 + column
            left = abs(planes[p + 2 * _PLANE])
            transmittance[c, y, x] = left
            for k in range(3):
                rgb[c, y, x, k] = planes[p + (3 + k) * _PLANE] + left * background[k]
            depth[c, y, x] = planes[p + 6 * _PLANE]
    return last


@kernel
def composite(first, last, seen, starts, splat_of, limits, background, picture, ends):
    """Draw tiles ``first`` to ``last`` into ``picture``.

    Fills ``ends`` [C T], too: one past the last position that could be seen in the tile.
    """
    _, height, width, _ = picture[0].shape
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for t in range(first, last):
        c, x0, y0 = t // (rows * columns), t % columns * TILE, t // columns % rows * TILE
        ends[t] = _draw_tile(c, x0, y0, starts[t], starts[t + 1], seen, splat_of, limits, background, picture)


@kernel_part
def _draw_tile_backward(tile, seen, pairs, limits, picture, grads, grad_depth, absolute, pair_gradients):
    """Gradient of `_draw_tile` at the positions from ``first`` to ``last``, which are the first two of ``pairs``."""
    c, x0, y0 = tile
    first, last, splat_of, slot_of = pairs
    means2d, splats, boxes = seen
    rgb, transmittance, depth = picture
    grad_rgb, grad_transmittance = grads
    planes = _new_planes(8, x0, y0)
    for row in range(min(TILE, rgb.shape[1] - y0)):
        for column in range(min(TILE, rgb.shape[2] - x0)):
            p, y, x = _pixel_of(row, column), y0 + row, x0 + column
            light = grad_transmittance[c, y, x] * transmittance[c, y, x]
            for k in range(3):
                planes[p + (3 + k) * _PLANE] = grad_rgb[c, y, x, k]
                light += grad_rgb[c, y, x, k] * rgb[c, y, x, k]
            if grad_depth is not None:
                planes[p + 6 * _PLANE] = grad_depth[c, y, x]
                light += grad_depth[c, y, x] * depth[c, y, x]
            planes[p + 7 * _PLANE] = light
    for position in range(first, last):
        s, out = splat_of[position], pair_gradients[slot_of[position]]
        strip0, strip1, start, count = _runs(boxes[s], x0, y0)
        for strip in range(strip0, strip1):
            shift = np.uintp(strip * _STRIP * TILE)
            _draw_backward(
                limits, grad_depth, absolute, start + shift, count, means2d[s, 0], means2d[s, 1], splats[s], planes, out
            )


@kernel
def composite_backward(
    first, last, seen, starts, ends, splat_of, slot_of, limits, picture, grads, grad_depth, absolute, pair_gradients
):
    """Add the gradient sums of every (splat, tile) pair to its slot of ``pair_gradients`` [pairs, GRADIENTS].

    ``grads`` are those of rgb and transmittance; the second leaves out what passes through the background in rgb.
    ``grad_depth`` may be None, and ``absolute`` is None where the absolute sums are not wanted: they cost a fifth of
    the time. These two stand apart because numba drops code for None where that is an argument of its own.
    """
    _, height, width, _ = picture[0].shape
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    for t in range(first, last):
        tile = (t // (rows * columns), t % columns * TILE, t // columns % rows * TILE)
        pairs = (starts[t], ends[t], splat_of, slot_of)
        _draw_tile_backward(tile, seen, pairs, limits, picture, grads, grad_depth, absolute, pair_gradients)


@kernel_part
def _sum_pairs_of(splat, pairs, grad_mean, absolute, grad):
    total, half = pairs[0], np.float32(0.5)
    for n in range(1, len(pairs)):
        for k in range(GRADIENTS):
            total[k] += pairs[n, k]
    grad_mean[0] = splat[0] * total[5] + splat[1] * total[6]
    grad_mean[1] = splat[1] * total[5] + splat[2] * total[6]
    absolute[0], absolute[1] = total[10], total[11]
    grad[0], grad[1], grad[2] = half * total[7], total[8], half * total[9]
    grad[3] = -total[4] / splat[3]
    grad[4], grad[5], grad[6], grad[7] = total[0], total[1], total[2], total[3]


@kernel
def sum_pairs(first, last, splats, first_slot, pair_gradients, grad_means2d, absolute_means2d, grad_splats):
    """Add up each splat's pairs in the order of its slots, and turn the moments into gradients of its numbers.

    Splats without pairs are left as they are; ``pair_gradients`` is used up.
    """
    for s in range(first, last):
        if first_slot[s] < first_slot[s + 1]:
            pairs = pair_gradients[first_slot[s] : first_slot[s + 1]]
            _sum_pairs_of(splats[s], pairs, grad_means2d[s], absolute_means2d[s], grad_splats[s])
