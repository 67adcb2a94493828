"""Multi-view stereo from known poses: no weights, no licence, on CPU and GPU.

For each photo: correlation with its neighbours over planes of constant depth, semi-global smoothing, refinement below
the plane distance; then only what other photos confirm survives. Where photos are few and thus far apart, they see
surfaces askew, and planes of any slant are tried, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fvgen.geometry.cameras import check_cameras
from fvgen.geometry.correlation import grey_images
from fvgen.geometry.depth_filters import (
    agreeing_views,
    seen_through,
    with_gaps_closed,
    without_flying_pixels,
    without_speckles,
)
from fvgen.geometry.matching_cost import matching_cost
from fvgen.geometry.patch_match import PatchMatch
from fvgen.geometry.points import depth_to_points
from fvgen.geometry.sgm import semi_global_cost
from fvgen.geometry.view_pairs import ViewPairs, pairs_from_cameras, pairs_from_points
from fvgen.numba_compile import threads_for_kernels
from fvgen.types import Cameras, Capture, Progress, SceneGeometry, no_progress

_COARSE_SIDE = 240
"""Pixels of the long side on which the depth range is found when there are no sparse points."""
_SMOOTH = 0.03
"""Depths that differ by less than this fraction may be one surface."""
_PATCH_STEP = 0.01
"""Neighbouring pixels whose depths differ by less than this fraction are one patch."""
_WIDEST = 80.0
"""Degrees between the viewing rays of two photos from which on matches of few photos are mostly accidents."""
_SLANTED_RULES: dict[str, Any] = {
    "least_correlation": 0.6,
    "agreement_pixels": 1.0,
    "agreement_depth": 0.01,
    "speckle": 300,
}
"""Planes of any slant have more chances to match by accident, and agree with what they were made to agree with."""


@dataclass(frozen=True)
class PlaneSweep:
    """Depth by plane sweep from two photos up; a field is an option of the method."""

    hypotheses: int = 128
    """Planes per photo, evenly spaced in inverse depth."""
    neighbours: int = 4
    """Most photos that one photo is compared with."""
    slanted_photos: int = 3
    """With so many photos or fewer, slanted planes fill in where planes of constant depth found nothing. With more
    photos that is not needed, and takes long."""
    window_radius: int = 4
    """The correlation window reaches this many pixels from its centre."""
    penalty_small: float = 0.08
    """Smoothing: cost of a change by one plane."""
    penalty_jump: float = 1.0
    """Smoothing: cost of a larger change where the photo is flat."""
    edge_contrast: float = 0.03
    """Smoothing: grey difference at which a jump costs half."""
    absent: float = -0.2
    """Correlation assumed where a neighbour sees nothing."""
    least_correlation: float = 0.2
    """Depth with less correlation is dropped."""
    least_views: int = 1
    """Other photos that must confirm a depth."""
    agreement_pixels: float = 1.5
    """A depth is confirmed when its pixel returns from the other photo within so many pixels,"""
    agreement_depth: float = 0.015
    """and with a depth that differs by less than this fraction."""
    speckle: int = 100
    """Connected patches of fewer pixels are dropped; chance patches are about as large as the window."""

    def reconstruct(self, capture: Capture, progress: Progress = no_progress) -> SceneGeometry:
        """Depth, confidence and the fused cloud; an empty cloud when no photos share a view.

        Raises:
            InputError: cameras or photos that geometry cannot start from.
        """
        check_cameras(capture.cameras)
        with threads_for_kernels():
            pairs = self._pairs(capture, progress)
            depths, confidences = self._depths(capture, pairs, self.hypotheses, progress)
        points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
        return SceneGeometry(capture.cameras, points, depths, confidences)

    def _pairs(self, capture: Capture, progress: Progress) -> ViewPairs:
        """Ranges and neighbours from the sparse points; without enough of them, from a coarse sweep of all depths."""
        widest = _WIDEST if self._few(capture) else 180.0
        if capture.sparse is not None:
            pairs = pairs_from_points(capture.cameras, capture.sparse.xyz, self.neighbours, widest)
            if pairs.complete:
                return pairs
        coarse = capture.resized(*capture.cameras.size_within(_COARSE_SIDE))
        pairs = pairs_from_cameras(coarse.cameras, self.neighbours, widest)
        depths, confidences = self._depths(coarse, pairs, 2 * self.hypotheses, progress, "finding the range of depth")
        found = depth_to_points(coarse.photos, coarse.cameras, depths, confidences)
        return pairs_from_points(capture.cameras, found.xyz, self.neighbours, widest)

    def _few(self, capture: Capture) -> bool:
        return len(capture) <= self.slanted_photos

    def _depths(
        self, capture: Capture, pairs: ViewPairs, hypotheses: int, progress: Progress, what: str = "estimating depth"
    ) -> tuple[Tensor, Tensor]:
        """Filtered depth and confidence, [V, H, W] each."""
        depths, scores = self._sweep(capture, pairs, hypotheses, progress, what)
        if not self._few(capture):
            return self._filter(depths, scores, capture.cameras)
        kept, confidence = self._filter(depths, scores, capture.cameras, pairs)
        greys = grey_images(capture.photos, capture.valid)
        depths, scores = PatchMatch(absent=self.absent).refine(greys, capture.cameras, pairs, depths, progress)
        slanted = replace(self, **_SLANTED_RULES)
        more, lower = slanted._filter(depths, scores, capture.cameras, pairs)
        confidence = torch.where(kept > 0, confidence, lower)
        kept = self._without_strays(torch.where(kept > 0, kept, more), capture.cameras)
        return kept, confidence * (kept > 0)

    def _sweep(
        self, capture: Capture, pairs: ViewPairs, hypotheses: int, progress: Progress, what: str
    ) -> tuple[Tensor, Tensor]:
        """Unfiltered depth and correlation, [V, H, W] each."""
        greys = grey_images(capture.photos, capture.valid)
        depths, scores = torch.zeros_like(greys), torch.zeros_like(greys)
        if min(greys.shape[1:]) <= self.window_radius:  # no window fits, not even mirrored at the border
            return depths, scores
        for i, (neighbours, span) in enumerate(zip(pairs.neighbours, pairs.ranges, strict=True)):
            progress(i, len(greys), what)
            if neighbours and span is not None:
                depths[i], scores[i] = self._sweep_view(greys, capture, i, neighbours, span, hypotheses)
        progress(len(greys), len(greys), what)
        return depths, scores

    def _sweep_view(
        self, greys: Tensor, capture: Capture, i: int, neighbours: list[int], span: tuple[float, float], hypotheses: int
    ) -> tuple[Tensor, Tensor]:
        """Depth and correlation of one photo, [H, W] each; depth 0 where the best plane is the first or last."""
        near, far = span
        inverse = torch.linspace(1 / far, 1 / near, hypotheses, device=greys.device)
        best = 2 if len(neighbours) > 2 else 1
        cost = matching_cost(greys, capture.cameras, i, neighbours, inverse, self.window_radius, best, self.absent)
        total = semi_global_cost(
            cost, greys[i].nan_to_num(0), self.penalty_small, self.penalty_jump, self.edge_contrast
        )
        index = total.argmin(dim=2).clamp(1, hypotheses - 2)
        below, here, above = (total.gather(2, (index + o)[..., None])[..., 0] for o in (-1, 0, 1))
        bend = below - 2 * here + above
        offset = torch.where(bend > 1e-6, (0.5 * (below - above) / bend.clamp_min(1e-6)).clamp(-0.5, 0.5), 0.0)
        step = inverse[1] - inverse[0]
        depth = 1 / (inverse[0] + (index + offset) * step)
        score = 1 - cost.gather(2, index[..., None])[..., 0]
        inner = (index > 1) & (index < hypotheses - 2)
        return depth * inner, score

    def _filter(
        self, depths: Tensor, scores: Tensor, cameras: Cameras, pairs: ViewPairs | None = None
    ) -> tuple[Tensor, Tensor]:
        """Depth that other photos confirm (those it was compared with, when ``pairs`` are given), and confidence."""
        count, mean = agreeing_views(
            depths, cameras, self.agreement_pixels, self.agreement_depth, pairs.neighbours if pairs else None
        )
        kept = mean * ((scores > self.least_correlation) & (count >= self.least_views))
        # gaps first: a surface with pinholes is one patch, not many speckles
        kept = self._without_strays(with_gaps_closed(kept, _SMOOTH, passes=3), cameras)
        confidence = (0.5 + 0.5 * scores.clamp(0, 1)) * (1 - 0.5 ** (1 + count))
        return kept, confidence * (kept > 0)

    def _without_strays(self, depths: Tensor, cameras: Cameras) -> Tensor:
        depths = without_speckles(depths, self.speckle, _PATCH_STEP)
        return without_flying_pixels(depths * (seen_through(depths, cameras, _SMOOTH) == 0), _SMOOTH)
