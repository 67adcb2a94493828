"""Splatfacto's parameters as a splat of any tool."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from nerfstudio.models.splatfacto import RGB2SH
from torch import Tensor

from fvgen.splats.gaussians import Gaussians


def gaussians_of(parameters: Mapping[str, Tensor], sh_degree: int) -> Gaussians:
    """Gaussians of splatfacto's parameters by name.

    Args:
        parameters: means, quats, scales, opacities [N, 1], features_dc [N, 3] and features_rest [N, K - 1, 3].
        sh_degree: the model's; at 0 the colours are stored as logits.
    """
    dc = parameters["features_dc"]
    dc = dc if sh_degree > 0 else RGB2SH(torch.sigmoid(dc))
    return Gaussians(
        means=parameters["means"],
        quats=parameters["quats"],
        scales=parameters["scales"],
        opacities=parameters["opacities"][:, 0],
        sh=torch.cat([dc[:, None], parameters["features_rest"]], dim=1),
    )
