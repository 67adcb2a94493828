"""Measured depth completed by the depth that a network sees in each photo alone."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fvgen.geometry.capture_depth import completed
from fvgen.geometry.depth_filters import without_flying_pixels
from fvgen.geometry.points import empty_cloud
from fvgen.geometry.push_pull import push_pull
from fvgen.types import Capture, Progress, SceneGeometry, no_progress


class LearnedDepth(Protocol):
    """Says for each photo alone what is nearer and what is farther, as `fvgen.models.depth_anything` does."""

    def inverse_depth(self, photos: Tensor, measured: Tensor, progress: Progress = no_progress) -> Tensor:
        """Inverse depth up to a scale and a shift of each photo, [V, H, W].

        Args:
            photos: [V, 3, H, W] in [0, 1].
            measured: [V, H, W] depth, continued smoothly where none is measured; zeros for a photo without any.
            progress: called with each photo.
        """
        ...


LEAST_KNOWN = 100
"""Pixels of measured depth that a photo must have for a fit."""
WORST_FIT = 0.1
"""Median relative error of depth, where it is measured, above which a photo's learned depth is not used."""
_SAYS = 0.5
"""Share of the error of one depth for all pixels that a fit may keep."""
CONFIDENCE = 0.2
"""Of learned depth; measured depth has more."""
_ROUNDS = 20
"""Reweighted least squares have settled by then."""
_JUMP = 0.05
"""Fraction of depth by which a pixel between two surfaces differs from both."""
_FARTHEST = 4.0
"""Learned depth beyond this multiple of a photo's largest measured depth is left to the background."""


def completed_by(
    learned: LearnedDepth, capture: Capture, geometry: SceneGeometry, progress: Progress = no_progress
) -> tuple[SceneGeometry, list[str]]:
    """The geometry with learned depth where it has none, and notes.

    Learned inverse depth is fitted to the measured one by a scale and a shift per photo, robustly, and what then still
    differs is spread from the measured pixels into the gaps, so that surfaces go on without a step. What another photo
    looks through is left out.

    Args:
        learned: the network.
        capture: V photos.
        geometry: of the same photos.
        progress: called with each photo.
    """
    some = (geometry.depths > 0)[:, None].to(geometry.depths)
    smooth = push_pull(torch.where(some > 0, 1 / geometry.depths[:, None].clamp_min(1e-12), 0.0), some)[:, 0]
    prompt = torch.where(smooth > 0, 1 / smooth.clamp_min(1e-12), 0.0)
    maps = learned.inverse_depth(capture.photos, prompt, progress).to(geometry.depths)
    depths, notes = torch.zeros_like(geometry.depths), []
    for i, (inverse, measured) in enumerate(zip(maps, geometry.depths, strict=True)):
        known = measured > 0
        fit = fit_inverse_depth(inverse[known], 1 / measured[known]) if int(known.sum()) >= LEAST_KNOWN else None
        if fit is None or fit[2] > WORST_FIT:
            why = "says too little about measured depth" if fit is None else f"is off by {100 * fit[2]:.0f} % there"
            notes.append(f"Photo {i + 1} keeps its gaps: the depth network {why}.")
            continue
        aligned = fit[0] * inverse + fit[1]
        left = torch.where(known, 1 / measured.clamp_min(1e-12) - aligned, 0.0)
        aligned = aligned + push_pull(left[None, None], known[None, None].to(left))[0, 0]
        farthest = _FARTHEST * measured.max()
        seen = capture.valid[i] & (aligned > 1 / farthest)
        depths[i] = torch.where(seen, 1 / aligned.clamp_min(1 / farthest), 0.0)
    depths = without_flying_pixels(torch.where(geometry.depths > 0, geometry.depths, depths), _JUMP)
    estimated = SceneGeometry(geometry.cameras, empty_cloud(), depths, CONFIDENCE * (depths > 0))
    return completed(geometry, estimated, capture), notes


def fit_inverse_depth(learned: Tensor, measured: Tensor) -> tuple[float, float, float] | None:
    """Scale, shift, and median relative error of ``scale * learned + shift`` to measured inverse depths.

    Iteratively reweighted least squares of the relative error, with Cauchy's weights about its median. None where the
    learned depth says nothing of the measured one: nearer is not nearer, or one depth for all does nearly as well.

    Args:
        learned: [N].
        measured: [N], positive.
    """
    x, y = learned.double(), measured.double()
    weight = 1 / y.square()
    scale = shift = y.new_zeros(())
    for _ in range(_ROUNDS):
        total = weight.sum()
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        spread = (weight * (x - mean_x).square()).sum().clamp_min(1e-30)
        scale = (weight * (x - mean_x) * (y - mean_y)).sum() / spread
        shift = mean_y - scale * mean_x
        error = ((scale * x + shift) / y - 1).abs()
        weight = 1 / y.square() / (1 + (error / error.median().clamp_min(1e-6)).square())
    off = float(error.median())
    if not scale > 0 or off > _SAYS * float((y.median() / y - 1).abs().median()):
        return None
    return float(scale), float(shift), off
