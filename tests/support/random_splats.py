"""A random splat, and cameras around it."""

from __future__ import annotations

import torch

from fvgen import Cameras, Gaussians
from fvgen.geometry.cameras import look_at


def random_splat(count: int = 40, terms: int = 16, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.5 * torch.randn(count, 3, generator=g),
        quats=torch.randn(count, 4, generator=g),
        scales=torch.randn(count, 3, generator=g) * 0.5 - 2,
        opacities=torch.randn(count, generator=g),
        sh=0.4 * torch.randn(count, terms, 3, generator=g),
    )


def cameras_around() -> Cameras:
    eyes = torch.tensor([[0.0, 0, -3], [2, 1, 2]]).double()
    c2w = look_at(eyes, torch.zeros(2, 3).double(), torch.tensor([0.0, -1, 0]).double())
    return Cameras(c2w, torch.tensor([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]).double().repeat(2, 1, 1), 24, 32)
