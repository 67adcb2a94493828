"""Gaps in pictures and maps, filled smoothly."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def push_pull(values: Tensor, weight: Tensor) -> Tensor:
    """Values where the weight is 1, smooth continuations where it is 0 (Gortler et al. 1996, the Lumigraph).

    Weighted means are pulled up a pyramid to where everything is known, and pushed back down into the gaps.

    Args:
        values: [F, C, H, W].
        weight: [F, 1, H, W] in [0, 1]. A frame of zero weight throughout comes back as zeros.
    """
    levels = [(values, weight)]
    while max(values.shape[-2:]) > 1:
        odd = (0, values.shape[-1] % 2, 0, values.shape[-2] % 2)
        total = 4 * functional.avg_pool2d(functional.pad(weight, odd), 2)
        values = 4 * functional.avg_pool2d(functional.pad(values * weight, odd), 2) / total.clamp_min(1e-8)
        weight = total.clamp_max(1)
        levels.append((values, weight))
    filled = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        height, width = values.shape[-2:]
        finer = functional.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        filled = weight * values + (1 - weight) * finer[..., :height, :width]
    return filled
