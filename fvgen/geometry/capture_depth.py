"""Measured depth that came with the capture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.geometry.cameras import check_cameras
from fvgen.geometry.depth_filters import (
    agreeing_views,
    seen_through,
    with_gaps_closed,
    without_flying_pixels,
    without_speckles,
)
from fvgen.geometry.points import depth_to_points
from fvgen.types import Capture, Progress, SceneGeometry, no_progress


@dataclass(frozen=True)
class CaptureDepth:
    """The sensor's own depth, cleaned; a field is an option of the method."""

    edge_jump: float = 0.03
    """Depth that lies between a nearer and a farther surface, this fraction away from both, is dropped."""
    agreement: float = 0.02
    """Two views agree when their depths differ by less than this fraction."""
    speckle: int = 50
    """Connected patches of fewer pixels are dropped."""

    def reconstruct(self, capture: Capture, progress: Progress = no_progress) -> SceneGeometry:
        """Depth, confidence and the fused cloud.

        Raises:
            InputError: the capture has no depth, or cameras that geometry cannot start from.
        """
        check_cameras(capture.cameras)
        require(
            capture.depths is not None,
            "the capture",
            "come with measured depth",
            "none",
            "Use the geometry `plane-sweep`, or `auto`.",
        )
        assert capture.depths is not None
        usable = capture.valid & torch.isfinite(capture.depths) & (capture.depths > 0)
        progress(0, 1, "cleaning measured depth")
        depths, confidences = self.clean(torch.where(usable, capture.depths, 0.0), capture)
        progress(1, 1, "cleaning measured depth")
        points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
        return SceneGeometry(capture.cameras, points, depths, confidences)

    def clean(self, depths: Tensor, capture: Capture) -> tuple[Tensor, Tensor]:
        """Filtered depth and confidence, [V, H, W] each."""
        cameras = capture.cameras
        # registration to the colour camera leaves a grid of one-pixel gaps, which would make every pixel a speckle
        depths = with_gaps_closed(depths, self.edge_jump, passes=3)
        depths = without_flying_pixels(depths, self.edge_jump)
        confirmed, _ = agreeing_views(depths, cameras, float("inf"), self.agreement)
        denied = seen_through(depths, cameras, self.edge_jump)
        kept = depths * (denied <= confirmed)
        kept = without_speckles(kept, self.speckle, self.agreement)
        # measured, but by one view alone: still worth more than most estimates
        confidence = 1 - 0.5 ** (1 + confirmed)
        return kept, confidence * (kept > 0)


def completed(measured: SceneGeometry, estimated: SceneGeometry, capture: Capture, jump: float = 0.03) -> SceneGeometry:
    """Measured depth with estimated depth where the sensor left nothing.

    An estimate that another view looks through, at a surface farther by the fraction ``jump``, is left out.
    """
    known = measured.depths > 0
    both = torch.where(known, measured.depths, estimated.depths)
    depths = both * (known | (seen_through(both, capture.cameras, jump) == 0))
    confidences = torch.where(known, measured.confidences, estimated.confidences) * (depths > 0)
    points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
    return SceneGeometry(capture.cameras, points, depths, confidences)
