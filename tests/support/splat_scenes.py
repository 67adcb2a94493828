"""Gaussians and cameras that rasterizers are tested on."""

from __future__ import annotations

import math

import torch

from fvgen.types import Cameras

WIDTH, HEIGHT = 70, 45  # no multiples of the tile size
INPUTS = ("means", "quats", "scales", "opacities", "sh")


def make_cameras(count: int = 2) -> Cameras:
    """Cameras on an arc, principal point off centre."""
    c2w = torch.eye(4).repeat(count, 1, 1)
    for c in range(count):
        angle = 0.2 * c
        c2w[c, 0, 0] = c2w[c, 2, 2] = math.cos(angle)
        c2w[c, 0, 2], c2w[c, 2, 0], c2w[c, 0, 3] = math.sin(angle), -math.sin(angle), 0.3 * c
    K = torch.tensor([[[60.0, 0, 34], [0, 55, 21], [0, 0, 1]]]).repeat(count, 1, 1)
    return Cameras(c2w, K, HEIGHT, WIDTH)


def make_gaussians(count: int = 300, size: float = 0.08, seed: int = 0) -> list[torch.Tensor]:
    """Random Gaussians in front of, beside and behind the cameras, from thin needles to ones wider than the image."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    means = normal(count, 3) * torch.tensor([1.2, 1.0, 1.5]) + torch.tensor([0, 0, 2.5])
    scales = torch.exp(0.8 * normal(count, 3)) * size
    return [means, normal(count, 4), scales, torch.sigmoid(2 * normal(count) + 0.5), 0.3 * normal(count, 16, 3)]
