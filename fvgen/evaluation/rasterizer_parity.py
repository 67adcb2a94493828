"""A splat rasterizer against the float64 oracle: image, alpha, depth and every gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras

TOLERANCE = 1e-3
"""Over the largest value of each tensor: gsplat's kernels work in float32 with a fast exp; the others are nearer."""
_INPUTS = ("means", "quats", "scales", "opacities", "sh")
_SH_DEGREE = 3


def parity_errors(name: str, device: torch.device, count: int = 300, seed: int = 0) -> dict[str, float]:
    """Largest error of each output and gradient, relative to the oracle's largest value of it.

    Args:
        name: name of a rasterizer that runs on ``device``.
        device: where it runs; the oracle is torch in float64 on the CPU.
        count: Gaussians, from thin needles to ones wider than the image, some beside and behind the camera.
        seed: random seed of the scene.

    Raises:
        InputError: the rasterizer does not run on this device.
    """
    gaussians, camera = _scene(count, seed)
    ours = _outputs(name, gaussians, camera, device, torch.float32)
    exact = _outputs("torch", gaussians, camera, torch.device("cpu"), torch.float64)
    return {
        key: float((ours[key] - value).abs().max()) / max(float(value.abs().max()), 1e-6)
        for key, value in exact.items()
    }


def _scene(count: int, seed: int) -> tuple[list[Tensor], Cameras]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    means = normal(count, 3) * torch.tensor([1.2, 1.0, 1.5]) + torch.tensor([0, 0, 2.5])
    opacities = torch.sigmoid(2 * normal(count) + 0.5)
    gaussians = [
        means,
        normal(count, 4),
        0.08 * torch.exp(0.8 * normal(count, 3)),
        opacities,
        0.3 * normal(count, 16, 3),
    ]
    K = torch.tensor([[[60.0, 0, 34], [0, 55, 21], [0, 0, 1]]])
    return gaussians, Cameras(torch.eye(4)[None], K, 45, 70)  # no multiples of a tile


def _outputs(
    name: str, gaussians: list[Tensor], camera: Cameras, device: torch.device, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Outputs, and gradients of a random weighting of them, in float64 on the CPU."""
    leaves = [tensor.detach().to(device, dtype).requires_grad_() for tensor in gaussians]
    means, quats, scales, opacities, sh = leaves
    rasterizer, camera = resolve(name, device), camera.to(device, dtype)
    render = rasterizer.rasterize(means, quats, scales, opacities, sh, camera, _SH_DEGREE)
    images = {"rgb": render.rgb, "alpha": render.alpha, "depth": render.depth}
    generator = torch.Generator().manual_seed(1)
    weighted = [(torch.randn(image.shape, generator=generator).to(image) * image).sum() for image in images.values()]
    torch.stack(weighted).sum().backward()
    gradients = {f"gradient of {key}": leaf.grad for key, leaf in zip(_INPUTS, leaves, strict=True)}
    return {key: value.detach().double().cpu() for key, value in (images | gradients).items() if value is not None}
