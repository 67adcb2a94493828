"""Splat rasterizer for the CPU: numba kernels, forward and backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from fvgen.numba_compile import run_parallel
from fvgen.rendering import numba_compositing, numba_harmonics, numba_projection
from fvgen.rendering.numba_tiles import TileLists
from fvgen.rendering.splat_rasterizer import (
    ALPHA_MAX,
    ALPHA_MIN,
    EPS2D,
    FAR_PLANE,
    NEAR_PLANE,
    TILE,
    TRANSMITTANCE_MIN,
    RasterizeMode,
    SplatRender,
    check_inputs,
    make_info,
)
from fvgen.types import Cameras

_LIMITS = (np.float32(ALPHA_MIN), np.float32(ALPHA_MAX), np.float32(TRANSMITTANCE_MIN))
_PROJECTION_LIMITS = (NEAR_PLANE, FAR_PLANE, EPS2D, ALPHA_MIN, TILE)


def _camera_numbers(cameras: Cameras) -> NDArray[np.float64]:
    """[C, 19]: what the projection kernels read of each camera."""
    c2w, K = cameras.c2w.detach().numpy().astype(np.float64), cameras.K.detach().numpy().astype(np.float64)
    rotation, position = c2w[:, :3, :3].transpose(0, 2, 1), c2w[:, :3, 3]
    shift = -np.einsum("cij,cj->ci", rotation, position)
    focal_and_centre = np.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]], 1)
    return np.concatenate([rotation.reshape(-1, 9), shift, focal_and_centre, position], 1)


def _arrays(*tensors: Tensor) -> tuple[NDArray, ...]:
    """The same memory as numpy arrays."""
    return tuple(t.detach().numpy() for t in tensors)


def _flat(*tensors: Tensor) -> tuple[NDArray, ...]:
    """[C, N, D] tensors as [C N, D] arrays over the same memory."""
    return tuple(t.detach().view(-1, t.shape[-1]).numpy() for t in tensors)


class _Project(torch.autograd.Function):
    """Gaussians to what each camera sees of them."""

    @staticmethod
    def forward(ctx: Any, means, quats, scales, opacities, sh, cameras, degree, width, height, antialiased):
        shape = (len(cameras), len(means))
        means2d, splats = means.new_zeros(*shape, 2), means.new_zeros(*shape, 8)
        radii, boxes = means.new_zeros(shape, dtype=torch.int32), means.new_zeros(*shape, 4, dtype=torch.int32)
        inputs, outputs = _arrays(means, quats, scales, opacities, sh), _arrays(means2d, splats, radii, boxes)
        run_parallel(
            numba_projection.project,
            len(means),
            inputs[:4],
            cameras,
            (width, height),
            _PROJECTION_LIMITS,
            antialiased,
            outputs,
        )
        run_parallel(numba_harmonics.colours, len(means), inputs[0], inputs[4], degree, cameras, outputs[2], outputs[1])
        ctx.save_for_backward(means, quats, scales, opacities, sh, splats, radii)
        ctx.constants = (cameras, degree, width, height, antialiased)
        ctx.mark_non_differentiable(radii, boxes)
        return means2d, splats, radii, boxes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_means2d, grad_splats, *_):
        means, quats, scales, opacities, sh, splats, radii = _arrays(*ctx.saved_tensors)
        cameras, degree, width, height, antialiased = ctx.constants
        grads = [torch.zeros_like(t) for t in ctx.saved_tensors[:5]]
        incoming, outgoing = _arrays(grad_means2d.contiguous(), grad_splats.contiguous()), _arrays(*grads)
        run_parallel(
            numba_projection.project_backward,
            len(means),
            (means, quats, scales, opacities),
            cameras,
            (width, height),
            EPS2D,
            antialiased,
            radii,
            *incoming,
            outgoing[:4],
        )
        run_parallel(
            numba_harmonics.colours_backward,
            len(means),
            means,
            sh,
            degree,
            cameras,
            radii,
            splats,
            incoming[1],
            outgoing[0],
            outgoing[4],
        )
        return (*grads, None, None, None, None, None)


class _Composite(torch.autograd.Function):
    """Splats to images; means2d comes in as a tensor of the graph, so that its gradient can be kept."""

    @staticmethod
    def forward(ctx: Any, means2d, splats, background, boxes, width, height, absgrad):
        shape = (len(splats), height, width)
        rgb, transmittance, depth = splats.new_empty(*shape, 3), splats.new_empty(shape), splats.new_empty(shape)
        depths = np.ascontiguousarray(splats.numpy()[..., 7])
        lists = TileLists(boxes.numpy(), depths, height, width, TILE)
        ends = np.empty(len(lists.starts) - 1, np.int32)
        run_parallel(
            numba_compositing.composite,
            len(ends),
            _flat(means2d, splats, boxes),
            lists.starts,
            lists.splat_of,
            _LIMITS,
            background.numpy(),
            _arrays(rgb, transmittance, depth),
            ends,
        )
        ctx.save_for_backward(means2d, splats, boxes, rgb, transmittance, depth)
        ctx.lists, ctx.ends, ctx.absgrad = lists, ends, absgrad
        ctx.set_materialize_grads(False)
        return rgb, 1 - transmittance, depth

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rgb, grad_alpha, grad_depth):
        means2d, splats, boxes, rgb, transmittance, depth = ctx.saved_tensors
        lists = ctx.lists
        grad_rgb = torch.zeros_like(rgb) if grad_rgb is None else grad_rgb.contiguous()
        grad_transmittance = torch.zeros_like(transmittance) if grad_alpha is None else -grad_alpha.contiguous()
        grad_depth = None if grad_depth is None else grad_depth.contiguous().numpy()
        pairs = np.zeros((len(lists.splat_of), numba_compositing.GRADIENTS), np.float32)
        grad_means2d, absolute, grad_splats = (torch.zeros_like(t) for t in (means2d, means2d, splats))
        run_parallel(
            numba_compositing.composite_backward,
            len(ctx.ends),
            _flat(means2d, splats, boxes),
            lists.starts,
            ctx.ends,
            lists.splat_of,
            lists.slot_of,
            _LIMITS,
            _arrays(rgb, transmittance, depth),
            _arrays(grad_rgb, grad_transmittance),
            grad_depth,
            absolute.numpy() if ctx.absgrad else None,
            pairs,
        )
        run_parallel(
            numba_compositing.sum_pairs,
            len(lists.first_slot) - 1,
            *_flat(splats),
            lists.first_slot,
            pairs,
            *_flat(grad_means2d, absolute, grad_splats),
        )
        if ctx.absgrad:
            means2d.absgrad = absolute
        grad_background = None
        if ctx.needs_input_grad[2]:  # numpy's sum, unlike torch's, does not depend on the number of threads
            grad_background = torch.from_numpy(np.einsum("chw,chwk->k", *_arrays(transmittance, grad_rgb)))
        return grad_means2d, grad_splats, grad_background, None, None, None, None


class NumbaRasterizer:
    """The fast rasterizer for machines without a GPU."""

    name = "numba"

    def rasterize(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor,
        cameras: Cameras,
        sh_degree: int,
        background: Tensor | None = None,
        *,
        absgrad: bool = False,
        rasterize_mode: RasterizeMode = "classic",
    ) -> SplatRender:
        """See `SplatRasterizer.rasterize`."""
        check_inputs(means, quats, scales, opacities, sh, cameras, sh_degree, background)
        gaussians = [t.float().contiguous() for t in (means, quats, scales, opacities, sh)]
        width, height = cameras.width, cameras.height
        means2d, splats, radii, boxes = _Project.apply(
            *gaussians, _camera_numbers(cameras), sh_degree, width, height, rasterize_mode == "antialiased"
        )
        background = torch.zeros(3) if background is None else background.float().contiguous()
        rgb, alpha, weighted = _Composite.apply(means2d, splats, background, boxes, width, height, absgrad)
        depth = weighted / alpha.clamp(min=1e-10)
        info = make_info(means2d, radii, splats[..., 7].detach(), cameras)
        return SplatRender(rgb, alpha[..., None], depth[..., None], info)
