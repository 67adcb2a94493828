"""Confidence in each generated pixel, and in each generated view."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

IN_HOLES = 0.02
"""The least confidence: not 0, because fog grows where nothing at all is supervised."""
_DISAGREEMENT = 0.12
"""Difference between colours in [0, 1] that should be equal at which confidence is halved."""
_REACH = 0.06
"""Distance from the nearest covered pixel over which confidence falls by e, as a share of the picture's diagonal."""
_JUST_OUTSIDE = 0.6
"""Confidence of a hole pixel right at the cover, beside a covered one."""


def pixel_confidence(
    covered: Tensor, disagreement: Tensor, seen: Tensor, point_confidence: Tensor, away: float = 1.0
) -> Tensor:
    """[F, 1, H, W] in [IN_HOLES, 1].

    A covered pixel starts from its points' confidence, a hole from its distance to the cover, where depth is still
    likely to be right. Both lose confidence where the photos disagree about the colour, or hardly any of them sees the
    place.

    Args:
        covered: [F, 1, H, W] bool, the cloud was seen here.
        disagreement: [F, 1, H, W] standard deviation of the warped photos' colours.
        seen: [F, 1, H, W] in [0, 1], how well some photo sees the place.
        point_confidence: [F, 1, H, W] of the points, in [0, 1].
        away: how far the frames stand from the nearest photo: 0 at the photo, 1 where the next photo is as near.
    """
    start = torch.where(covered, 0.5 + 0.5 * point_confidence, hole_confidence(covered, away))
    return (start * agreement(disagreement) * (0.25 + 0.75 * seen)).clamp(IN_HOLES, 1)


def agreement(difference: Tensor) -> Tensor:
    """Confidence (0, 1] in colours that differ by ``difference`` (any shape, 0 or more) from what they should equal."""
    return 1 / (1 + (difference / _DISAGREEMENT) ** 2)


def hole_confidence(covered: Tensor, away: float = 1.0) -> Tensor:
    """[F, 1, H, W] confidence by distance to the cover alone; ``covered`` [F, 1, H, W] bool.

    Wrong depth shifts colour in proportion to how far the frame stands ``away`` from the photo that gives it.
    """
    beside = 1 - (1 - _JUST_OUTSIDE) * away
    return beside * torch.exp(-away * cover_distance(covered) / _REACH)


def cover_distance(covered: Tensor) -> Tensor:
    """[F, 1, H, W] distance to the nearest covered pixel as a share of the diagonal; 1 where nothing is covered."""
    height, width = covered.shape[-2:]
    out = []
    for mask in covered[:, 0].cpu().numpy():
        distance = (
            cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            if mask.any()
            else np.inf
        )
        out.append(np.minimum(np.broadcast_to(distance, mask.shape) / np.hypot(height, width), 1))
    return torch.from_numpy(np.stack(out).astype(np.float32))[:, None].to(covered.device) if out else covered.float()


def view_confidence(pixel_confidence: Tensor) -> Tensor:
    """[F] the mean confidence of a view's pixels [F, 1, H, W]."""
    return pixel_confidence.mean(dim=(1, 2, 3))
