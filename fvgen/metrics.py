"""Picture metrics: PSNR, SSIM, ST-LPIPS, AVGE, and the affine colour fit that takes exposure out of a comparison."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
ST_LPIPS_SIDE = 32
"""Shortest side that ST-LPIPS's network can look at, in pixels."""
_C1, _C2 = 0.01**2, 0.03**2


def psnr(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of images in [0, 1].

    Args:
        prediction: [..., 3, H, W].
        target: same shape.
        where: [..., 1, H, W] bool, the pixels that count; all of them when None.
    """
    error = (prediction - target).square()
    mean = error.mean() if where is None else error[where.expand_as(error)].mean()
    return -10 * torch.log10(mean.clamp_min(1e-10))


@lru_cache(maxsize=8)
def _gaussian_window(dtype: torch.dtype, device: torch.device) -> Tensor:
    x = torch.arange(SSIM_WINDOW, dtype=dtype, device=device) - SSIM_WINDOW // 2
    weights = torch.exp(-x.square() / (2 * SSIM_SIGMA**2))
    return weights / weights.sum()


@lru_cache(maxsize=32)
def _blur_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[size - 10, size] band matrix: the valid 1D Gaussian filter as a product, which a CPU runs far faster than a
    depth-wise convolution (and a GPU does not mind)."""
    window = _gaussian_window(dtype, device)
    rows = size - SSIM_WINDOW + 1
    matrix = torch.zeros(rows, size, dtype=dtype, device=device)
    for offset in range(SSIM_WINDOW):
        matrix[torch.arange(rows), torch.arange(rows) + offset] = window[offset]
    return matrix


def ssim_map(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per pixel (Wang et al. 2004: 11 px Gaussian window, sigma 1.5), differentiable.

    Args:
        prediction: [3, H, W] in [0, 1]; H and W at least 11.
        target: same shape.

    Returns:
        [3, H - 10, W - 10]: only where the window lies inside the image, as the reference implementation has it.
        On a CPU, float32 goes through compiled loops.
    """
    height, width = prediction.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        pad = (0, max(0, SSIM_WINDOW - width), 0, max(0, SSIM_WINDOW - height))
        return ssim_map(F.pad(prediction, pad), F.pad(target, pad))
    if (
        prediction.device.type == "cpu"
        and prediction.dtype == target.dtype == torch.float32
        and not target.requires_grad
    ):
        from fvgen.ssim_numba import CompiledSimilarity  # numba is not needed on a GPU

        window = _gaussian_window(prediction.dtype, prediction.device)
        similarity: Tensor = CompiledSimilarity.apply(prediction.contiguous(), target.contiguous(), window, _C1, _C2)
        return similarity
    rows = _blur_matrix(height, prediction.dtype, prediction.device)
    columns = _blur_matrix(width, prediction.dtype, prediction.device)

    def blurred(*images: Tensor) -> tuple[Tensor, ...]:
        return torch.split(rows @ (torch.cat(images) @ columns.T), 3)

    # apart, because in training only the first three carry a gradient
    mean_p, mean_pp, mean_pt = blurred(prediction, prediction.square(), prediction * target)
    mean_t, mean_tt = blurred(target, target.square())
    variance_p, variance_t = mean_pp - mean_p.square(), mean_tt - mean_t.square()
    covariance = mean_pt - mean_p * mean_t
    luminance = (2 * mean_p * mean_t + _C1) / (mean_p.square() + mean_t.square() + _C1)
    return luminance * (2 * covariance + _C2) / (variance_p + variance_t + _C2)


def ssim(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Mean structural similarity of two [3, H, W] images in [0, 1].

    Args:
        prediction: [3, H, W].
        target: same shape.
        where: [1, H, W] bool, the pixels whose windows count; all windows within the image when None.
    """
    similarity = ssim_map(prediction, target)
    if where is None:
        return similarity.mean()
    margin = SSIM_WINDOW // 2
    centres = where[:, margin : margin + similarity.shape[1], margin : margin + similarity.shape[2]]
    return similarity[centres.expand_as(similarity)].mean()


def fit_affine_colour(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """``prediction`` after the affine colour map (3x4, least squares) that brings it nearest ``target``.

    Exposure and white balance differ between photos of some captures; a splat cannot know the held-out photo's.

    Args:
        prediction: [3, H, W].
        target: [3, H, W].
        where: [1, H, W] bool, the pixels that it is fitted to; all of them when None.
    """
    pixels, wanted = prediction.reshape(3, -1).T.double(), target.reshape(3, -1).T.double()
    homogeneous = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
    chosen = slice(None) if where is None else where.flatten()
    matrix: Tensor = torch.linalg.lstsq(homogeneous[chosen], wanted[chosen], driver="gelsd").solution
    return (homogeneous @ matrix).T.reshape(prediction.shape).to(prediction.dtype).clamp(0, 1)


@lru_cache(maxsize=2)
def _st_lpips_network(device: torch.device) -> nn.Module:
    from stlpips_pytorch import stlpips

    network: nn.Module = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    return network.to(device).requires_grad_(False)


def st_lpips(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Perceptual distance of two images: shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022), AlexNet; lower is better.

    Another network than LPIPS, with other numbers: the two must not be compared. Its weights come with the package
    stlpips-pytorch (BSD-2). The network needs 32 pixels a side: smaller images are padded by repeating their border.

    Args:
        prediction: [3, H, W] in [0, 1].
        target: same shape.
        where: [1, H, W] bool, the pixels that count: elsewhere both images show the target. All of them when None.
    """
    if where is not None:
        prediction = torch.where(where, prediction, target)
    height, width = target.shape[-2:]
    margins = (0, max(0, ST_LPIPS_SIDE - width), 0, max(0, ST_LPIPS_SIDE - height))
    first, second = (F.pad(image[None].float(), margins, mode="replicate") for image in (prediction, target))
    distance: Tensor = _st_lpips_network(prediction.device)(first, second, normalize=True)
    return distance.squeeze()


def avge(psnr_db: float, ssim_value: float, perceptual: float) -> float:
    """The field's one-number error (Barron et al. 2021, mip-NeRF): geometric mean of three errors; lower is better.

    Args:
        psnr_db: PSNR in dB, of images in [0, 1]: the mean squared error is 10^(-PSNR / 10).
        ssim_value: enters as sqrt(1 - SSIM).
        perceptual: LPIPS or ST-LPIPS; say which beside the figure.
    """
    return float((10 ** (-psnr_db / 10) * max(1 - ssim_value, 0) ** 0.5 * max(perceptual, 0)) ** (1 / 3))


def picture_scores(prediction: Tensor, target: Tensor, where: Tensor | None = None) -> dict[str, float]:
    """PSNR in dB, SSIM, PSNR after an affine colour fit, ST-LPIPS and AVGE of them, by name.

    Args:
        prediction: [3, H, W] in [0, 1].
        target: [3, H, W] in [0, 1].
        where: [1, H, W] bool, the pixels that count; all of them when None.
    """
    scores = {
        "psnr": float(psnr(prediction, target, where)),
        "ssim": float(ssim(prediction, target, where)),
        "psnr_affine": float(psnr(fit_affine_colour(prediction, target, where), target, where)),
        "st_lpips": float(st_lpips(prediction, target, where)),
    }
    return {**scores, "avge": avge(scores["psnr"], scores["ssim"], scores["st_lpips"])}
