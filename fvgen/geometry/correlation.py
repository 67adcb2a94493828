"""Normalised cross-correlation of windows of a photo with its neighbours, warped over planes.

Planes of constant depth in the reference camera (Collins, "A Space-Sweep Approach to True Multi-Image Matching",
CVPR 1996). NaN marks "no pixel here" throughout: it spreads by itself to every window that misses one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.types import Cameras

VARIANCE_FLOOR = (2 / 255) ** 2
"""Sensor noise: a window with less variance than this correlates with nothing."""


def grey_images(photos: Tensor, valid: Tensor) -> Tensor:
    """[V, H, W] luma (ITU-R BT.601) of ``photos`` [V, 3, H, W]; NaN where ``valid`` [V, H, W] is False."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=photos.dtype, device=photos.device)
    return torch.einsum("vchw,c->vhw", photos, weights).masked_fill(~valid, math.nan)


def window_mean(images: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2 ``radius`` + 1 pixels squared, the border mirrored; ``images`` [N, H, W].

    Sums of powers of two are shared along each axis: log(n) additions, no running sum that would smear a NaN.
    """
    side = 2 * radius + 1
    padded = functional.pad(images[:, None], (radius,) * 4, mode="reflect")[:, 0]
    return _run_sum(_run_sum(padded, side, 2), side, 1) / side**2


def _run_sum(values: Tensor, count: int, dim: int) -> Tensor:
    """Sums of ``count`` consecutive entries along ``dim``; that many less one shorter."""
    length = values.shape[dim] - count + 1
    total, start, block, size = None, 0, values, 1
    while count:
        if count & 1:
            part = block.narrow(dim, start, length)
            total = part if total is None else total + part
            start += size
        count >>= 1
        if count:
            kept = block.shape[dim] - size
            block = block.narrow(dim, 0, kept) + block.narrow(dim, size, kept)
            size *= 2
    assert total is not None
    return total


def source_pixels(cameras: Cameras, reference: int, neighbours: list[int]) -> tuple[Tensor, Tensor]:
    """Where the reference's pixels lie in S neighbours: ``infinity @ (u, v, 1) + parallax * inverse depth``.

    Returns:
        infinity [S, 3, 3] and parallax [S, 3], for homogeneous pixels, float64.
    """
    ref, src = cameras[reference], cameras[neighbours]
    relative = src.w2c.double() @ ref.c2w.double()
    infinity = src.K.double() @ relative[:, :3, :3] @ torch.linalg.inv(ref.K.double())
    return infinity, (src.K.double() @ relative[:, :3, 3:])[..., 0]


class PlaneWarp:
    """Brings neighbours' images into a reference view over planes of constant depth."""

    def __init__(self, greys: Tensor, cameras: Cameras, reference: int, neighbours: list[int]) -> None:
        """``greys`` [V, H, W] with NaN for missing pixels; V ``cameras``."""
        # a frame of NaN: samples beyond the image become NaN too
        self._images = functional.pad(greys[neighbours, None], (1, 1, 1, 1), value=math.nan)
        height, width = cameras.height, cameras.width
        y, x = torch.meshgrid(
            torch.arange(height, device=greys.device) + 0.5,
            torch.arange(width, device=greys.device) + 0.5,
            indexing="ij",
        )
        pixels = torch.stack([x, y, torch.ones_like(x)]).to(greys.dtype)
        # pixel of the padded image, in the [-1, 1] of grid_sample
        to_grid = torch.tensor(
            [[2 / (width + 2), 0, 2 / (width + 2) - 1], [0, 2 / (height + 2), 2 / (height + 2) - 1], [0, 0, 1]],
            dtype=greys.dtype, device=greys.device,
        )  # fmt: skip
        infinity, parallax = (part.to(greys.dtype) for part in source_pixels(cameras, reference, neighbours))
        self._at_infinity = torch.einsum("sij,jhw->sihw", to_grid @ infinity, pixels)
        self._parallax = (parallax @ to_grid.T)[..., None, None]

    def __call__(self, inverse_depth: Tensor) -> Tensor:
        """[S, H, W] neighbours' values at ``inverse_depth`` (a scalar or [H, W]); NaN where they see nothing."""
        place = self._at_infinity + self._parallax * inverse_depth
        z = place[:, 2:]
        grid = torch.where(z > 1e-6, place[:, :2] / z, 2.0).permute(0, 2, 3, 1)
        return functional.grid_sample(self._images, grid, mode="bilinear", padding_mode="border", align_corners=False)[
            :, 0
        ]


class Correlation:
    """Normalised cross-correlation of the reference with warped neighbours, on windows of one size."""

    def __init__(self, grey: Tensor, radius: int) -> None:
        """``grey`` [H, W] of the reference, NaN where it has no pixel."""
        self._radius = radius
        self._grey = grey
        self.mean = window_mean(grey[None], radius)
        self.variance = (window_mean(grey[None] ** 2, radius) - self.mean**2).clamp_min(0) + VARIANCE_FLOOR

    def __call__(self, warped: Tensor) -> Tensor:
        """[S, H, W] in [-1, 1] for ``warped`` [S, H, W]; NaN where a window misses a pixel."""
        count = len(warped)
        means = window_mean(torch.cat([warped, warped * warped, warped * self._grey]), self._radius)
        mean, square, product = means[:count], means[count : 2 * count], means[2 * count :]
        variance = (square - mean * mean).clamp_min(0) + VARIANCE_FLOOR
        return (product - mean * self.mean) / torch.sqrt(variance * self.variance)


def best_mean(scores: Tensor, best: int, absent: float) -> Tensor:
    """Mean of the ``best`` (1 or 2) largest scores over the neighbours, so that an occluded one does no harm.

    Args:
        scores: [S, H, W], NaN where a neighbour sees nothing.
        best: how many count; at most S.
        absent: the score that stands for NaN.
    """
    scores = scores.nan_to_num(absent)
    first, second = scores[0], torch.full_like(scores[0], -math.inf)
    for score in scores[1:]:
        second = torch.maximum(second, torch.minimum(first, score))
        first = torch.maximum(first, score)
    return first if best == 1 else (first + second) / 2
