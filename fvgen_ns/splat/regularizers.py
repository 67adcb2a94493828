"""Terms of a splat's loss that look at the Gaussians alone, not at a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fvgen_ns.fvgen_model import FVGenModelConfig

SCALE_REGULARIZATION_EVERY = 10
"""Steps between two of splatfacto's own terms against needles."""


def regularizers(
    config: FVGenModelConfig, scales: Tensor, opacities: Tensor, step: int, scene_scale: float
) -> dict[str, Tensor]:
    """The terms that the options ask for, weighted.

    Args:
        config: of the model.
        scales: [N, 3] logarithms of the sizes.
        opacities: [N, 1] logits.
        step: number of the training step.
        scene_scale: typical distance from the cameras.
    """
    terms = {}
    if config.use_scale_regularization and step % SCALE_REGULARIZATION_EVERY == 0:
        sizes = torch.exp(scales)
        ratio = sizes.amax(dim=-1) / sizes.amin(dim=-1)
        terms["scale_reg"] = 0.1 * (ratio - config.max_gauss_ratio).clamp_min(0).mean()
    if config.opacity_penalty:
        terms["opacity_penalty"] = config.opacity_penalty * torch.sigmoid(opacities).mean()
    if config.size_penalty:
        terms["size_penalty"] = config.size_penalty * torch.exp(scales).mean() / scene_scale
    return terms
