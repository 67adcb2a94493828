"""Triton kernels: group normalisation with a shift before and SiLU after it, and the gradient of the whole.

    y = silu(normalise(x + shift) * weight + bias)

Statistics are float32 whatever x is, and so is all arithmetic in between: x is read twice and y written once. The
group's elements are spread over many programs, which torch's own moments kernel does not do: there are only frames
times groups of them. Means and squared deviations of the parts are merged as in Chan et al., "Updating Formulae and a
Pairwise Algorithm for Computing Sample Variances" (1979): no difference of large sums.

Any layout goes: the kernels take the strides of x [N, C, A, B], so a channels-last map is read as it lies.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_ELEMENTS = 4096
"""Elements of a tile: channels of a group (up to a power of two) times positions."""
_MOST_PARTS = 64
"""Programs that share a group."""


@triton.jit
def _tile(row, part, parts, groups, group_size, positions, columns, strides, CHANNELS: tl.constexpr):
    """What program (row, part) works on: first channel, offsets of the channels, first and one-past-last position."""
    image, group = (row // groups).to(tl.int64), row % groups
    channel = group * group_size + tl.arange(0, CHANNELS)
    base = image * strides[0] + channel.to(tl.int64) * strides[1]
    share = tl.cdiv(positions, parts)
    first = part * share
    return image, channel, base, first, tl.minimum(first + share, positions)


@triton.jit
def _places(base, position, columns, strides):
    """Offsets [CHANNELS, BLOCK] of positions a B + b."""
    along = (position // columns).to(tl.int64) * strides[2] + (position % columns).to(tl.int64) * strides[3]
    return base[:, None] + along[None, :]


@triton.jit
def _moments(
    x, shift, partial, parts, groups, group_size, positions, columns, x_strides,
    SHIFTED: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``partial`` [N G, parts, 3]: count, mean and sum of squared deviations of each part of a group."""
    row, part = tl.program_id(0), tl.program_id(1)
    image, channel, base, first, last = _tile(
        row, part, parts, groups, group_size, positions, columns, x_strides, CHANNELS
    )
    known = tl.arange(0, CHANNELS) < group_size
    moved = tl.zeros([CHANNELS], tl.float32)
    if SHIFTED:
        moved = tl.load(shift + image * groups * group_size + channel, mask=known, other=0).to(tl.float32)
    count, mean, spread = 0.0, 0.0, 0.0
    for start in range(first, last, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = known[:, None] & (position < last)[None, :]
        value = tl.load(x + _places(base, position, columns, x_strides), mask=inside, other=0).to(tl.float32)
        value = tl.where(inside, value + moved[:, None], 0.0)
        here = group_size * tl.minimum(last - start, BLOCK).to(tl.float32)
        own = tl.sum(tl.sum(value, 1), 0) / here
        deviation = tl.where(inside, value - own, 0.0)
        step, total = own - mean, count + here
        spread += tl.sum(tl.sum(deviation * deviation, 1), 0) + step * step * count * here / total
        mean += step * here / total
        count = total
    at = partial + (row * parts + part) * 3
    tl.store(at, count)
    tl.store(at + 1, mean)
    tl.store(at + 2, spread)


@triton.jit
def _merged(partial, row, parts, eps, PARTS: tl.constexpr):
    """Mean and inverse deviation of a group."""
    part = tl.arange(0, PARTS)
    at = partial + (row * parts + part) * 3
    count = tl.load(at, mask=part < parts, other=0.0)
    mean = tl.load(at + 1, mask=part < parts, other=0.0)
    spread = tl.load(at + 2, mask=part < parts, other=0.0)
    total = tl.sum(count, 0)
    middle = tl.sum(count * mean, 0) / total
    variance = (tl.sum(spread, 0) + tl.sum(count * (mean - middle) * (mean - middle), 0)) / total
    return middle, 1.0 / tl.sqrt(variance + eps)


@triton.jit
def _apply(
    x, shift, weight, bias, partial, statistics, y,
    parts, groups, group_size, positions, columns, eps, x_strides, y_strides,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """Write y, and ``statistics`` [N G, 2]: mean and inverse deviation."""
    row, part = tl.program_id(0), tl.program_id(1)
    image, channel, base, first, last = _tile(
        row, part, parts, groups, group_size, positions, columns, x_strides, CHANNELS
    )
    y_base = image * y_strides[0] + channel.to(tl.int64) * y_strides[1]
    known = tl.arange(0, CHANNELS) < group_size
    mean, inverse = _merged(partial, row, parts, eps, PARTS)
    if part == 0:
        tl.store(statistics + row * 2, mean)
        tl.store(statistics + row * 2 + 1, inverse)
    scale = tl.load(weight + channel, mask=known, other=0).to(tl.float32) * inverse
    offset = tl.load(bias + channel, mask=known, other=0).to(tl.float32) - mean * scale
    if SHIFTED:
        offset += tl.load(shift + image * groups * group_size + channel, mask=known, other=0).to(tl.float32) * scale
    for start in range(first, last, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = known[:, None] & (position < last)[None, :]
        value = tl.load(x + _places(base, position, columns, x_strides), mask=inside, other=0).to(tl.float32)
        value = value * scale[:, None] + offset[:, None]
        if SILU:
            value = value * tl.sigmoid(value)
        tl.store(y + _places(y_base, position, columns, y_strides), value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _normalised_and_slope(value, mean, inverse, scale, offset, grad, SILU: tl.constexpr):
    """The normalised value, and the gradient before SiLU."""
    normal = (value - mean) * inverse
    if SILU:
        before = normal * scale + offset
        gate = tl.sigmoid(before)
        grad = grad * gate * (1.0 + before * (1.0 - gate))
    return normal, grad


@triton.jit
def _sums(
    x, shift, weight, bias, statistics, grad, sums,
    parts, groups, group_size, positions, columns, x_strides,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``sums`` [N G, parts, 3, group_size] per channel: of the gradient before SiLU, of that times the normalised
    value, and of the normalised value."""
    row, part = tl.program_id(0), tl.program_id(1)
    image, channel, base, first, last = _tile(
        row, part, parts, groups, group_size, positions, columns, x_strides, CHANNELS
    )
    known = tl.arange(0, CHANNELS) < group_size
    mean, inverse = tl.load(statistics + row * 2), tl.load(statistics + row * 2 + 1)
    scale = tl.load(weight + channel, mask=known, other=0).to(tl.float32)[:, None]
    offset = tl.load(bias + channel, mask=known, other=0).to(tl.float32)[:, None]
    moved = tl.zeros([CHANNELS], tl.float32)
    if SHIFTED:
        moved = tl.load(shift + image * groups * group_size + channel, mask=known, other=0).to(tl.float32)
    slope_sum = tl.zeros([CHANNELS], tl.float32)
    product_sum = tl.zeros([CHANNELS], tl.float32)
    normal_sum = tl.zeros([CHANNELS], tl.float32)
    for start in range(first, last, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = known[:, None] & (position < last)[None, :]
        places = _places(base, position, columns, x_strides)
        value = tl.load(x + places, mask=inside, other=0).to(tl.float32) + moved[:, None]
        slope = tl.load(grad + places, mask=inside, other=0).to(tl.float32)
        normal, slope = _normalised_and_slope(value, mean, inverse, scale, offset, slope, SILU)
        normal = tl.where(inside, normal, 0.0)
        slope_sum += tl.sum(slope, 1)
        product_sum += tl.sum(slope * normal, 1)
        normal_sum += tl.sum(normal, 1)
    at = sums + (row * parts + part) * 3 * group_size + tl.arange(0, CHANNELS)
    tl.store(at, slope_sum, mask=known)
    tl.store(at + group_size, product_sum, mask=known)
    tl.store(at + 2 * group_size, normal_sum, mask=known)


@triton.jit
def _apply_backward(
    x, shift, weight, bias, statistics, means, grad, out,
    parts, groups, group_size, positions, columns, x_strides,
    SHIFTED: tl.constexpr, SILU: tl.constexpr, CHANNELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """dL/dx, of x's strides. ``means`` [N G, 2] over a group: of weight times the gradient before SiLU, and of that
    times the normalised value."""
    row, part = tl.program_id(0), tl.program_id(1)
    image, channel, base, first, last = _tile(
        row, part, parts, groups, group_size, positions, columns, x_strides, CHANNELS
    )
    known = tl.arange(0, CHANNELS) < group_size
    mean, inverse = tl.load(statistics + row * 2), tl.load(statistics + row * 2 + 1)
    middle, along = tl.load(means + row * 2), tl.load(means + row * 2 + 1)
    scale = tl.load(weight + channel, mask=known, other=0).to(tl.float32)[:, None]
    offset = tl.load(bias + channel, mask=known, other=0).to(tl.float32)[:, None]
    moved = tl.zeros([CHANNELS], tl.float32)
    if SHIFTED:
        moved = tl.load(shift + image * groups * group_size + channel, mask=known, other=0).to(tl.float32)
    for start in range(first, last, BLOCK):
        position = start + tl.arange(0, BLOCK)
        inside = known[:, None] & (position < last)[None, :]
        places = _places(base, position, columns, x_strides)
        value = tl.load(x + places, mask=inside, other=0).to(tl.float32) + moved[:, None]
        slope = tl.load(grad + places, mask=inside, other=0).to(tl.float32)
        normal, slope = _normalised_and_slope(value, mean, inverse, scale, offset, slope, SILU)
        value = inverse * (slope * scale - middle - normal * along)
        tl.store(out + places, value.to(out.dtype.element_ty), mask=inside)


class _Layout:
    """How the work on x [N, C, *spatial] is dealt out, at most two spatial dimensions."""

    def __init__(self, x: Tensor, groups: int) -> None:
        rows, columns = (*([1] * (4 - x.ndim)), *x.shape[2:])
        channels = x.shape[1] // groups
        self.positions = rows * columns
        self.tile = {"CHANNELS": triton.next_power_of_2(channels)}
        self.tile["BLOCK"] = max(_ELEMENTS // self.tile["CHANNELS"], 16)
        self.parts = min(max(triton.cdiv(self.positions, self.tile["BLOCK"]), 1), _MOST_PARTS)
        self.grid = (len(x) * groups, self.parts)
        self.sizes = (self.parts, groups, channels, self.positions, columns)

    @staticmethod
    def strides(x: Tensor) -> tuple[int, ...]:
        """Strides of the images, channels, rows and columns."""
        return (*x.stride()[:2], *([0] * (4 - x.ndim)), *x.stride()[2:])


class FusedGroupNorm(torch.autograd.Function):
    """``(x, weight, bias, shift, groups, eps, silu)`` -> y, differentiable by the first four.

    x [N, C, *spatial] with at most two spatial dimensions, in any layout; weight and bias [C]; shift [N, C] or None.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu):
        layout, shift = _Layout(x, groups), None if shift is None else shift.contiguous()
        y = torch.empty_like(x)
        partial = x.new_empty(*layout.grid, 3, dtype=torch.float32)
        statistics = x.new_empty(layout.grid[0], 2, dtype=torch.float32)
        strides, kinds = layout.strides(x), {"SHIFTED": shift is not None, **layout.tile}
        moved = x if shift is None else shift  # a pointer that is not followed
        _moments[layout.grid](x, moved, partial, *layout.sizes, strides, **kinds)
        _apply[layout.grid](
            x, moved, weight, bias, partial, statistics, y, *layout.sizes, eps, strides, layout.strides(y),
            SILU=silu, PARTS=triton.next_power_of_2(layout.parts), **kinds,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, shift, statistics)
        ctx.groups, ctx.silu = groups, silu
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):
        x, weight, bias, shift, statistics = ctx.saved_tensors
        layout, out = _Layout(x, ctx.groups), torch.empty_like(x)
        x, grad = (t if t.stride() == out.stride() else torch.empty_like(out).copy_(t) for t in (x, grad))
        strides = layout.strides(out)
        kinds = {"SHIFTED": shift is not None, "SILU": ctx.silu, **layout.tile}
        moved, size = x if shift is None else shift, layout.sizes[2]
        sums = x.new_empty(*layout.grid, 3, size, dtype=torch.float32)
        known = (x, moved, weight, bias, statistics)
        _sums[layout.grid](*known, grad, sums, *layout.sizes, strides, **kinds)
        slope, product, normal = sums.sum(1).unflatten(0, (len(x), ctx.groups)).unbind(2)  # [N, G, C / G] each
        by_channel = weight.float().view(ctx.groups, size)
        count = size * layout.positions
        middle, along = ((by_channel * s).sum(-1, keepdim=True) / count for s in (slope, product))
        means = torch.cat([middle, along], dim=-1).contiguous()
        _apply_backward[layout.grid](*known, means, grad, out, *layout.sizes, strides, **kinds)
        grad_shift = None
        if shift is not None:
            inverse = statistics[:, 1].view(len(x), ctx.groups, 1)
            grad_shift = inverse * (by_channel * slope - layout.positions * middle - normal * along)
            grad_shift = grad_shift.reshape(shift.shape).to(shift.dtype)
        grad_weight, grad_bias = (s.sum(0).flatten().to(weight.dtype) for s in (product, slope))
        return out, grad_weight, grad_bias, grad_shift, None, None, None
