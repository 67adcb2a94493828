"""Leaving out Gaussians at random while a splat trains."""

from __future__ import annotations

import torch
from torch import Tensor

_MOST = 0.999
"""Opacity that compositing still has a gradient at."""


def drop(opacities: Tensor, share: float) -> Tensor:
    """Opacities [N] in [0, 1] of which a random ``share`` is 0 and the rest larger, so that the mean stays.

    With few photos the Gaussians in front fit them and those behind are hardly seen; where any may be missing, all
    are trained (DropGaussian, Park et al., CVPR 2025, https://arxiv.org/abs/2504.00773).
    """
    if share == 0:
        return opacities
    kept = torch.rand_like(opacities) >= share
    return torch.where(kept, opacities / (1 - share), 0.0).clamp(max=_MOST)
