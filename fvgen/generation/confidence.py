"""Confidence in each pixel and each view that a generator drew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.generation.reprojection import Reprojection, cover_distance
from fvgen.types import PointRender

IN_HOLES = 0.02
"""The least confidence: not 0, because fog grows where nothing at all is supervised."""
_COLOUR_TOLERANCE = 0.12
"""Difference between colours in [0, 1] that should be equal at which confidence is halved."""
_REACH = 0.06
"""Distance from the nearest covered pixel over which confidence falls by e, as a share of the picture's diagonal."""
_JUST_OUTSIDE = 0.6
"""Confidence of a hole pixel right beside a covered one."""
_DEPTH_TOLERANCE = 0.03
"""Share of its depth by which a place may differ from what a photo measured there."""
_NEIGHBOURHOOD = 5
"""Pixels over which colours are compared: codec and resampling move edges by a pixel or two."""
_HOLE_WEIGHT = 0.1
"""Weight of a hole pixel beside a covered one in the score of a view: its depth is a guess."""
_UNSEEN = 0.5
"""Confidence in a view of which no photo sees anything."""


def view_confidence(pixel_confidence: Tensor) -> Tensor:
    """[F] the mean confidence of a view's pixels [F, 1, H, W]."""
    return pixel_confidence.mean(dim=(1, 2, 3))


def warped_pixel_confidence(
    covered: Tensor, disagreement: Tensor, visibility: Tensor, point_confidence: Tensor, away: float = 1.0
) -> Tensor:
    """[F, 1, H, W] in [IN_HOLES, 1] of frames that were warped from photos.

    A covered pixel starts from its points' confidence, a hole from its distance to the cover, where depth is still
    likely to be right. Both lose confidence where the photos disagree about the colour, or hardly any of them sees the
    place.

    Args:
        covered: [F, 1, H, W] bool, the cloud was seen here.
        disagreement: [F, 1, H, W] standard deviation of the warped photos' colours.
        visibility: [F, 1, H, W] in [0, 1], how well some photo sees the place.
        point_confidence: [F, 1, H, W] of the points, in [0, 1].
        away: how far the frames stand from the nearest photo: 0 at the photo, 1 where the next photo is as near.
    """
    start = torch.where(covered, 0.5 + 0.5 * point_confidence, hole_confidence(covered, away))
    return (start * colour_agreement(disagreement) * (0.25 + 0.75 * visibility)).clamp(IN_HOLES, 1)


def generated_pixel_confidence(
    rgb: Tensor, render: PointRender, depth_confidence: Tensor, disagreement: Tensor | None = None
) -> Tensor:
    """[1, 1, H, W] in [IN_HOLES, 1] of one frame that a network drew.

    A covered pixel's confidence is that of its points, less where they are thin, where the photos' depth disagrees and
    where the network changed their colour. A hole's falls with the distance to the cover.

    Args:
        rgb: [1, 3, H, W] as generated.
        render: of the frame: what the network was shown, at this size.
        depth_confidence: [1, 1, H, W] from `depth_agreement`.
        disagreement: [1, 1, H, W] from `seed_disagreement`; None when only one sample was drawn.
    """
    covered = render.depth > 0
    shown = render.rgb / render.alpha.clamp_min(1e-6)  # the compositing darkens thin places
    points = render.confidence / render.alpha.clamp_min(1e-6)
    kept = colour_agreement(_local_difference(rgb, shown, covered.to(rgb)))
    on_points = (0.5 + 0.5 * points.clamp(0, 1)) * (0.5 + 0.5 * render.alpha) * depth_confidence * kept
    confidence = torch.where(covered, on_points, hole_confidence(covered))
    if disagreement is not None:
        confidence = confidence * colour_agreement(disagreement)
    return confidence.clamp(IN_HOLES, 1)


def colour_agreement(difference: Tensor) -> Tensor:
    """(0, 1] for colours that differ by ``difference`` (any shape, 0 or more) from what they should equal."""
    return 1 / (1 + (difference / _COLOUR_TOLERANCE) ** 2)


def depth_agreement(there: Reprojection) -> Tensor:
    """[1, 1, H, W] in (0, 1]: which share of the photos that can compare agrees with a frame's depth.

    A photo that measured something farther in that direction looked through the place and contradicts it; one that
    measured something nearer cannot see it and says nothing. Where none can compare, it is 1.
    """
    comparable = (there.seen > 0) & there.known
    agree = (comparable & ((there.depth_ratio - 1).abs() <= _DEPTH_TOLERANCE)).sum(0, keepdim=True)
    against = (comparable & (there.depth_ratio < 1 - _DEPTH_TOLERANCE)).sum(0, keepdim=True)
    return (agree + 1) / (agree + against + 1)


def seed_disagreement(samples: Tensor) -> Tensor:
    """[F, 1, H, W] standard deviation of samples [N, F, 3, H, W] of the same frames, mean over colours."""
    return samples.std(dim=0, unbiased=False).mean(dim=1, keepdim=True)


def hole_confidence(covered: Tensor, away: float = 1.0) -> Tensor:
    """[F, 1, H, W] by distance to the cover alone; ``covered`` [F, 1, H, W] bool.

    Wrong depth shifts colour in proportion to how far the frame stands ``away`` from the photo that gives it.
    """
    beside = 1 - (1 - _JUST_OUTSIDE) * away
    return beside * torch.exp(-away * cover_distance(covered) / _REACH)


def generated_view_confidence(rgb: Tensor, covered: Tensor, there: Reprojection) -> float:
    """How well a generated frame shows what its neighbouring photos show, in [0, 1].

    Every pixel is compared with the photo that fits it better, where that photo sees the place. Without any such pixel
    it is 0.5.

    Args:
        rgb: [1, 3, H, W] as generated.
        covered: [1, 1, H, W] bool.
        there: the frame's places in the photos.
    """
    fits = colour_agreement(_local_difference(rgb, there.colour, there.seen)) * (there.seen > 0.5)
    weight = (there.seen > 0.5).any(0, keepdim=True) * (_HOLE_WEIGHT + (1 - _HOLE_WEIGHT) * covered.to(rgb))
    total = float(weight.sum())
    return float((weight * fits.amax(0, keepdim=True)).sum()) / total if total > 0 else _UNSEEN


def photo_agreement(rgb: Tensor, there: Reprojection) -> float:
    """How well a frame and all photos that see its places show the same there, in [0, 1]; 0 where none sees any.

    Unlike `generated_view_confidence`, every photo counts, so that a frame which copies one of them at a wrong depth is
    contradicted by the others.

    Args:
        rgb: [1, 3, H, W]
        there: the frame's places in the photos, by its own depth.
    """
    fits = colour_agreement(_local_difference(rgb, there.colour, there.seen))
    return float((there.seen * fits).sum() / there.seen.sum().clamp_min(1e-6))


def _local_difference(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """[N, 1, H, W] mean absolute difference of a [1 or N, 3, H, W] and b [N, 3, H, W] around each pixel.

    Small shifts do not count: both are averaged over the neighbourhood first, by weight [N, 1, H, W].
    """

    def local(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, _NEIGHBOURHOOD, stride=1, padding=_NEIGHBOURHOOD // 2)

    total = local(weight).clamp_min(1e-6)
    return ((local(a * weight) - local(b * weight)) / total).abs().mean(dim=1, keepdim=True)
