"""Triton kernels: GELU-gated linear unit (Shazeer 2020, arXiv:2002.05202), value * gelu(gate), and its gradient.

The exact GELU, in float32. Both halves lie in one tensor [..., 2 D], value first, as the projection writes them.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 1024


@triton.jit
def _share(gate):
    """The normal distribution's share below ``gate``: gelu(gate) = gate * share."""
    return 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))


@triton.jit
def _forward(both, out, width, BLOCK: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(both + row * 2 * width + column, mask=inside, other=0).to(tl.float32)
    gate = tl.load(both + (row * 2 + 1) * width + column, mask=inside, other=0).to(tl.float32)
    tl.store(out + row * width + column, (value * gate * _share(gate)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(both, grad, out, width, BLOCK: tl.constexpr):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    value = tl.load(both + row * 2 * width + column, mask=inside, other=0).to(tl.float32)
    gate = tl.load(both + (row * 2 + 1) * width + column, mask=inside, other=0).to(tl.float32)
    incoming = tl.load(grad + row * width + column, mask=inside, other=0).to(tl.float32)
    share = _share(gate)
    density = 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    kind = out.dtype.element_ty
    tl.store(out + row * 2 * width + column, (incoming * gate * share).to(kind), mask=inside)
    slope = incoming * value * (share + gate * density)
    tl.store(out + (row * 2 + 1) * width + column, slope.to(kind), mask=inside)


class FusedGeglu(torch.autograd.Function):
    """[..., 2 D] -> [..., D]."""

    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        both = both.contiguous()
        width = both.shape[-1] // 2
        out = both.new_empty(*both.shape[:-1], width)
        _forward[(out.numel() // width, triton.cdiv(width, _BLOCK))](both, out, width, BLOCK=_BLOCK)
        ctx.save_for_backward(both)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (both,) = ctx.saved_tensors
        out, width = torch.empty_like(both), both.shape[-1] // 2
        grid = (both.numel() // (2 * width), triton.cdiv(width, _BLOCK))
        _backward[grid](both, grad.contiguous(), out, width, BLOCK=_BLOCK)
        return out
