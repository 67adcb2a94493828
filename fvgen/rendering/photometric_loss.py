"""The photometric loss of splatting, weighted per pixel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fvgen.metrics import SSIM_WINDOW, ssim_map


def photometric_loss(prediction: Tensor, target: Tensor, weight: Tensor | None, ssim_share: float) -> Tensor:
    """``(1 - s) L1 + s (1 - SSIM)``, the loss of 3D Gaussian splatting (Kerbl et al. 2023), each pixel by its weight.

    Where the weight is 0, nothing is compared, not even by the windows of pixels beside it.
    Weighted sums are divided by the number of pixels, not by the sum of weights: a frame of low confidence
    pulls little, however few of its pixels have more.

    Args:
        prediction: [H, W, 3] in [0, 1].
        target: [H, W, 3].
        weight: [H, W, 1] in [0, 1], or None for 1 everywhere.
        ssim_share: s.
    """
    if weight is not None:
        fixed = prediction.detach()
        prediction, target = (torch.where(weight > 0, image, fixed) for image in (prediction, target))
    absolute = (prediction - target).abs()
    dissimilarity = 1 - ssim_map(prediction.permute(2, 0, 1), target.permute(2, 0, 1))
    if weight is None:
        return (1 - ssim_share) * absolute.mean() + ssim_share * dissimilarity.mean()
    centres = weight[..., 0][None]
    margin = SSIM_WINDOW // 2
    if dissimilarity.shape[-2:] == (centres.shape[1] - 2 * margin, centres.shape[2] - 2 * margin):
        centres = centres[:, margin:-margin, margin:-margin]
    else:  # an image smaller than the window was padded
        centres = F.interpolate(centres[None], dissimilarity.shape[-2:], mode="area")[0]
    return (1 - ssim_share) * (absolute * weight).mean() + ssim_share * (dissimilarity * centres).mean()
