"""Matching cost of a photo over depth, the surface in each window taken for a plane of one of a few orientations.

With planes of constant depth alone, a wall or floor that two photos see askew from far apart matches nowhere: its
windows are stretched differently in the two. Gallup, Frahm, Mordohai, Yang and Pollefeys, "Real-Time Plane-Sweeping
Stereo with Multiple Sweeping Directions", CVPR 2007.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fvgen.geometry.cameras import pixel_rays
from fvgen.geometry.matching_cost import Correlation, PlaneWarp, best_mean
from fvgen.types import Cameras

SLANTS = ((0.0, 0.0), (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
"""Relative change of inverse depth per unit of x/z and y/z; the first are planes of constant depth, 1 is 45 degrees."""
SLANT_COST = 0.02
"""Added to the cost of slanted planes: each orientation is one more chance to match by accident."""
_LEAST_SLOPE = 0.2
"""Near the horizon of a slanted plane its inverse depth is kept from falling further."""


@dataclass(frozen=True)
class PlaneFamily:
    """Parallel planes in front of a camera: plane j has inverse depth ``offsets[j] * slope`` at each pixel."""

    slope: Tensor
    """[H, W], 1 on the optical axis"""
    offsets: Tensor
    """[N], evenly spaced"""

    @classmethod
    def covering(cls, camera: Cameras, slant: tuple[float, float], inverse_depths: Tensor) -> PlaneFamily:
        """The planes of one slant, as dense as the D evenly rising ``inverse_depths`` and reaching all of them."""
        rays = pixel_rays(camera)[0].to(inverse_depths)
        slope = (1 + slant[0] * rays[..., 0] + slant[1] * rays[..., 1]).clamp_min(_LEAST_SLOPE)
        step = inverse_depths[1] - inverse_depths[0]
        first, last = inverse_depths[0] / slope.max(), inverse_depths[-1] / slope.min()
        count = max(2, math.ceil(float((last - first) / step) - 1e-3) + 1)
        return cls(slope, first + step * torch.arange(count, device=step.device))


def matching_cost(
    greys: Tensor, cameras: Cameras, reference: int, neighbours: list[int], inverse_depths: Tensor,
    slants: Sequence[tuple[float, float]], radius: int, best: int, absent: float,
) -> Tensor:  # fmt: skip
    """Cost of each inverse depth at each pixel of a photo: 1 minus the correlation, of the orientation that fits best.

    Args:
        greys: [V, H, W], NaN for missing pixels.
        cameras: V cameras.
        reference: the photo.
        neighbours: the photos it is compared with.
        inverse_depths: [D], rising evenly, in 1 / scene units.
        slants: of `SLANTS`, those that are tried.
        radius: of the correlation window in pixels.
        best, absent: see `fvgen.geometry.matching_cost.best_mean`.

    Returns:
        [H, W, D] float32.
    """
    greys = greys.float()
    if greys.device.type == "cpu":
        from fvgen.geometry.slanted_planes_numba import CompiledMatcher

        matcher: Matcher = CompiledMatcher(greys, cameras, reference, neighbours, radius, best, absent)
    else:
        matcher = TorchMatcher(greys, cameras, reference, neighbours, radius, best, absent)
    cost = greys.new_full((*greys.shape[1:], len(inverse_depths)), math.inf)
    for slant in slants:
        family = PlaneFamily.covering(cameras[reference], slant, inverse_depths)
        matcher.lower(cost, family, inverse_depths, SLANT_COST if any(slant) else 0.0)
    return cost


class Matcher(Protocol):
    """Correlation of one photo with its neighbours over families of planes."""

    def lower(self, cost: Tensor, family: PlaneFamily, inverse_depths: Tensor, extra: float) -> None:
        """Where the family's planes, at ``extra`` cost, fit better than ``cost`` [H, W, D] says, write that there."""
        ...


class TorchMatcher:
    """A `Matcher` for any device."""

    def __init__(
        self, greys: Tensor, cameras: Cameras, reference: int, neighbours: list[int],
        radius: int, best: int, absent: float,
    ) -> None:  # fmt: skip
        """See `matching_cost`."""
        self._warp = PlaneWarp(greys, cameras, reference, neighbours)
        self._correlate = Correlation(greys[reference], radius)
        self._best, self._absent = best, absent

    def lower(self, cost: Tensor, family: PlaneFamily, inverse_depths: Tensor, extra: float) -> None:
        """See `Matcher`."""
        scores = cost.new_empty(*family.slope.shape, len(family.offsets))
        for j, offset in enumerate(family.offsets):
            scores[..., j] = best_mean(self._correlate(self._warp(offset * family.slope)), self._best, self._absent)
        step = family.offsets[1] - family.offsets[0]
        place = (inverse_depths / family.slope[..., None] - family.offsets[0]) / step
        below = place.floor().long().clamp(0, len(family.offsets) - 2)
        scores = torch.lerp(scores.gather(2, below), scores.gather(2, below + 1), (place - below).clamp(0, 1))
        torch.minimum(cost, 1 - scores + extra, out=cost)
