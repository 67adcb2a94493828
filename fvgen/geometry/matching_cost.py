"""Photo-consistency of depth hypotheses: correlation with the neighbours that agree best, at each pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from fvgen.geometry.correlation import Correlation, PlaneWarp, best_mean
from fvgen.geometry.matching_cost_numba import correlations
from fvgen.types import Cameras


def matching_cost(
    greys: Tensor,
    cameras: Cameras,
    reference: int,
    neighbours: list[int],
    inverse_depths: Tensor,
    radius: int,
    best: int,
    absent: float,
) -> Tensor:
    """Cost of each inverse depth at each pixel of a photo: 1 minus the correlation.

    Args:
        greys: [V, H, W], NaN for missing pixels.
        cameras: V cameras.
        reference: the photo.
        neighbours: the photos it is compared with.
        inverse_depths: [D] in 1 / scene units.
        radius: of the correlation window in pixels.
        best, absent: see `best_mean`.

    Returns:
        [H, W, D] float32.
    """
    greys = greys.float()
    if greys.device.type == "cpu":
        scores = correlations(greys, cameras, reference, neighbours, inverse_depths, radius, best, absent)
        return 1 - torch.from_numpy(scores).permute(1, 2, 0).contiguous()
    return torch_matching_cost(greys, cameras, reference, neighbours, inverse_depths, radius, best, absent)


def torch_matching_cost(
    greys: Tensor,
    cameras: Cameras,
    reference: int,
    neighbours: list[int],
    inverse_depths: Tensor,
    radius: int,
    best: int,
    absent: float,
) -> Tensor:
    """`matching_cost` on any device, with the same arguments and result."""
    warp, correlate = PlaneWarp(greys, cameras, reference, neighbours), Correlation(greys[reference], radius)
    cost = greys.new_empty(*greys.shape[1:], len(inverse_depths))
    for j, inverse_depth in enumerate(inverse_depths):
        cost[..., j] = 1 - best_mean(correlate(warp(inverse_depth)), best, absent)
    return cost
