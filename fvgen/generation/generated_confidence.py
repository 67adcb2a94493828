"""Confidence in what a diffusion network drew: against the points, the photos and other seeds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.generation.confidence import IN_HOLES, agreement, hole_confidence
from fvgen.generation.warp import warp_photos
from fvgen.geometry.cameras import project, unproject
from fvgen.types import Cameras, PointRender

_DEPTH_TOLERANCE = 0.03
"""Share of its depth by which a place may differ from what a photo measured there."""
_NEIGHBOURHOOD = 5
"""Pixels over which colours are compared: codec and resampling move edges by a pixel or two."""
_HOLES_COUNT = 0.1
"""Weight of a hole beside a covered pixel in the score of a view: its depth is a guess."""
_UNSEEN = 0.5
"""Confidence in a view of which no photo sees anything."""


@dataclass(frozen=True)
class Neighbours:
    """S photos beside a frame."""

    photos: Tensor
    """[S, 3, H, W]"""
    valid: Tensor
    """[S, H, W] bool"""
    cameras: Cameras
    depths: Tensor
    """[S, 1, H, W] without zeros (see `fvgen.generation.warp.filled_photo_depths`)"""
    known: Tensor
    """[S, 1, H, W] bool, where the depth was measured and not filled"""

    def look_at(self, frame: Cameras, depth: Tensor) -> Reprojection:
        """What they show at the places that a frame (one camera) sees at ``depth`` [1, 1, H, W], without zeros."""
        shown = torch.cat([self.photos, self.depths, self.known.to(self.depths)], dim=1)
        sampled, seen = warp_photos(shown, self.valid, self.depths, self.cameras, frame, depth)
        _, z = project(unproject(depth[:, 0], frame).reshape(-1, 3), self.cameras)
        return Reprojection(sampled[:, :3], z.view_as(seen) / sampled[:, 3:4], sampled[:, 4:] > 0.99, seen)


@dataclass(frozen=True)
class Reprojection:
    """A frame's places in S photos."""

    colour: Tensor
    """[S, 3, H, W]"""
    depth_ratio: Tensor
    """[S, 1, H, W] of the place over what the photo has in that direction"""
    known: Tensor
    """[S, 1, H, W] bool, whether the photo has measured that"""
    seen: Tensor
    """[S, 1, H, W] as from `fvgen.generation.warp.warp_photos`"""


def generated_pixel_confidence(
    rgb: Tensor, render: PointRender, depth_confidence: Tensor, disagreement: Tensor | None = None
) -> Tensor:
    """[1, 1, H, W] in [IN_HOLES, 1] of one generated frame.

    A covered pixel's confidence is that of its points, less where they are thin, where the photos' depth disagrees and
    where the network changed their colour. A hole's falls with the distance to the cover.

    Args:
        rgb: [1, 3, H, W] as generated.
        render: of the frame: what the network was shown, at this size.
        depth_confidence: [1, 1, H, W] from `depth_agreement`.
        disagreement: [1, 1, H, W] from `seed_disagreement`; None when only one sample was drawn.
    """
    covered = render.depth > 0
    seen = render.rgb / render.alpha.clamp_min(1e-6)  # the compositing darkens thin places
    confidence = render.confidence / render.alpha.clamp_min(1e-6)
    kept = agreement(_local_difference(rgb, seen, covered.to(rgb)))
    on_points = (0.5 + 0.5 * confidence.clamp(0, 1)) * (0.5 + 0.5 * render.alpha) * depth_confidence * kept
    out = torch.where(covered, on_points, hole_confidence(covered))
    if disagreement is not None:
        out = out * agreement(disagreement)
    return out.clamp(IN_HOLES, 1)


def seed_disagreement(samples: Tensor) -> Tensor:
    """[F, 1, H, W] standard deviation of samples [N, F, 3, H, W] of the same frames, mean over colours."""
    return samples.std(dim=0, unbiased=False).mean(dim=1, keepdim=True)


def depth_agreement(there: Reprojection) -> Tensor:
    """[1, 1, H, W] in (0, 1]: which share of the photos that can compare agrees with a frame's depth.

    A photo that measured something farther in that direction looked through the place and contradicts it; one that
    measured something nearer cannot see it and says nothing. Where none can compare, it is 1.
    """
    comparable = (there.seen > 0) & there.known
    agree = (comparable & ((there.depth_ratio - 1).abs() <= _DEPTH_TOLERANCE)).sum(0, keepdim=True)
    against = (comparable & (there.depth_ratio < 1 - _DEPTH_TOLERANCE)).sum(0, keepdim=True)
    return (agree + 1) / (agree + against + 1)


def reprojection_confidence(rgb: Tensor, covered: Tensor, there: Reprojection) -> float:
    """How well a generated frame shows what its neighbouring photos show, in [0, 1].

    Every pixel is compared with the photo that fits it better, where that photo sees the place. Without any such pixel
    it is 0.5.

    Args:
        rgb: [1, 3, H, W] as generated.
        covered: [1, 1, H, W] bool.
        there: the frame's places in the photos.
    """
    fits = agreement(_local_difference(rgb, there.colour, there.seen)) * (there.seen > 0.5)
    weight = (there.seen > 0.5).any(0, keepdim=True) * (_HOLES_COUNT + (1 - _HOLES_COUNT) * covered.to(rgb))
    total = float(weight.sum())
    return float((weight * fits.amax(0, keepdim=True)).sum()) / total if total > 0 else _UNSEEN


def _local_difference(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """[N, 1, H, W] mean absolute difference of a [1 or N, 3, H, W] and b [N, 3, H, W] around each pixel.

    Small shifts do not count: both are averaged over the neighbourhood first, by weight [N, 1, H, W].
    """

    def local(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, _NEIGHBOURHOOD, stride=1, padding=_NEIGHBOURHOOD // 2)

    total = local(weight).clamp_min(1e-6)
    return ((local(a * weight) - local(b * weight)) / total).abs().mean(dim=1, keepdim=True)
