"""What CLIP's image tower is shown: the whole image squashed to a square, exactly as ViewCrafter was trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fvgen.checks import require

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def _gaussian(sigma: float) -> Tensor:
    """[k] odd-sized kernel of about two standard deviations to each side, summing to 1."""
    size = int(max(4.0 * sigma, 3.0)) // 2 * 2 + 1
    offsets = torch.arange(size, dtype=torch.float32) - size // 2
    weights = torch.exp(-(offsets**2) / (2.0 * sigma**2))
    return weights / weights.sum()


def _blur(images: Tensor, sigma: tuple[float, float]) -> Tensor:
    """Gaussian blur of images [N, 3, H, W], reflected at the border; ``sigma`` is (rows, columns) in pixels."""
    rows, columns = (_gaussian(s).to(images) for s in sigma)
    channels = images.shape[1]
    top, left = len(rows) // 2, len(columns) // 2
    padded = F.pad(images, (left, left, top, top), mode="reflect")
    blurred = F.conv2d(padded, columns.expand(channels, 1, 1, -1), groups=channels)
    return F.conv2d(blurred, rows[:, None].expand(channels, 1, -1, 1), groups=channels)


def clip_preprocess(images: Tensor, size: int = 224) -> Tensor:
    """Pixel values [N, 3, size, size] for CLIP's image tower from images [N, 3, H, W] in [0, 1].

    The whole image is squashed to the square: blurred where it shrinks (standard deviation (factor - 1)/2 pixels per
    axis, kornia's ``resize(antialias=True)``), then bicubic with corners aligned, then CLIP's mean and deviation.

    Raises:
        InputError: for another shape.
    """
    require(
        images.ndim == 4 and images.shape[1] == 3,
        "images",
        "have shape [N, 3, H, W]",
        tuple(images.shape),
        "Give RGB images as one batch.",
    )
    # The original works on [-1, 1]; doing the same keeps the rounding the same.
    signed = images.float() * 2 - 1
    factors = images.shape[-2] / size, images.shape[-1] / size
    if max(factors) > 1:
        signed = _blur(signed, (max((factors[0] - 1) / 2, 0.001), max((factors[1] - 1) / 2, 0.001)))
    resized = F.interpolate(signed, (size, size), mode="bicubic", align_corners=True)
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return ((resized + 1) / 2 - mean) / std
