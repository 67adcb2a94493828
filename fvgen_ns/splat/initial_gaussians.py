"""The Gaussians that a splat starts from: one at each seed point, as large as the points lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from nerfstudio.models.splatfacto import RGB2SH, num_sh_bases
from torch import Tensor, nn

from fvgen.rendering.gaussian_sizes import neighbour_distance

if TYPE_CHECKING:
    from fvgen_ns.fvgen_model import FVGenModelConfig

BACKGROUND_OPACITY = 0.1
"""Opacity that Gaussians of the background start with: their depth is uncertain, and photos that contradict it fade
them out the sooner."""
LARGEST_START = 0.5
"""Most that a Gaussian starts with, in typical distances from the cameras; a lonely point would give it more."""


def start_points(config: FVGenModelConfig, seeds: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Places [N, 3] and colours [N, 3] in [0, 1].

    Args:
        config: of the model.
        seeds: places [N, 3] and colours [N, 3] in 0 .. 255; None for random ones.
    """
    if seeds is not None:
        return seeds[0].float(), seeds[1].float() / 255
    return (torch.rand(config.num_random, 3) - 0.5) * config.random_scale, torch.rand(config.num_random, 3)


def initial_gaussians(
    config: FVGenModelConfig, means: Tensor, colours: Tensor, is_background: Tensor, scene_scale: float
) -> dict[str, nn.Parameter]:
    """Splatfacto's parameters by name, N rows each.

    Args:
        config: of the model.
        means: [N, 3] where they stand.
        colours: [N, 3] in [0, 1].
        is_background: [N] bool; sizes follow the density of the background and of the rest apart.
        scene_scale: typical distance from the cameras.
    """
    sh = torch.zeros(len(means), num_sh_bases(config.sh_degree), 3)
    sh[:, 0] = RGB2SH(colours) if config.sh_degree > 0 else torch.logit(colours, eps=1e-4)
    sizes = torch.empty(len(means))
    for part in (is_background, ~is_background):
        sizes[part] = config.initial_size * neighbour_distance(means[part])
    sizes = sizes.clamp_max(LARGEST_START * scene_scale)
    tensors = {
        "means": means,
        "scales": torch.log(sizes)[:, None].repeat(1, 3),
        "quats": torch.nn.functional.normalize(torch.randn(len(means), 4), dim=-1),
        "features_dc": sh[:, 0],
        "features_rest": sh[:, 1:],
        "opacities": torch.logit(torch.where(is_background, BACKGROUND_OPACITY, config.initial_opacity))[:, None],
    }
    return {name: nn.Parameter(tensor.contiguous()) for name, tensor in tensors.items()}
