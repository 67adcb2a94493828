"""A short splat fit without densification: enough to compare two sets of starting points on a photo left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.metrics import ssim
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras, PointCloud

SH_DC = 0.28209479177387814
"""The constant spherical harmonic basis function."""
LEARNING_RATES = {"means": 1.6e-4, "scales": 0.01, "quats": 1e-3, "sh": 5e-3, "opacities": 0.05}


@dataclass(frozen=True)
class QuickFit:
    """Gaussians of constant colour, before activation."""

    parameters: dict[str, Tensor]

    def render(self, camera: Cameras, background: Tensor) -> Tensor:
        """[3, H, W] picture of a batch of one camera."""
        p = self.parameters
        picture = resolve("auto", p["means"].device).rasterize(
            p["means"], p["quats"], p["scales"].exp(), p["opacities"].sigmoid(), p["sh"], camera, 0, background
        )
        return picture.rgb[0].permute(2, 0, 1)


def fit_splat(
    points: PointCloud,
    sizes: Tensor,
    photos: Tensor,
    cameras: Cameras,
    *,
    iterations: int,
    scene_scale: float,
    seed: int,
) -> QuickFit:
    """Fit Gaussians that start at ``points`` to the photos, one photo a step.

    Args:
        points: P points to start from.
        sizes: [P] initial standard deviations, scene units.
        photos: [V, 3, H, W].
        cameras: V cameras.
        iterations: steps of Adam.
        scene_scale: typical distance from the cameras; learning rates of the means are in this unit.
        seed: order of the photos, and backgrounds.
    """
    count = len(points)
    generator = torch.Generator().manual_seed(seed)
    start = {
        "means": points.xyz,
        "scales": sizes.log()[:, None].expand(count, 3),
        "quats": torch.tensor([1.0, 0, 0, 0], device=points.xyz.device).expand(count, 4),
        "sh": ((points.rgb - 0.5) / SH_DC)[:, None],
        "opacities": torch.full((count,), -0.85, device=points.xyz.device),
    }
    fit = QuickFit({name: value.clone().contiguous().requires_grad_() for name, value in start.items()})
    rates = {**LEARNING_RATES, "means": LEARNING_RATES["means"] * scene_scale}
    optimizer = torch.optim.Adam(
        [{"params": [fit.parameters[n]], "lr": rates[n]} for n in rates], eps=1e-15, fused=True
    )
    order: list[int] = []
    for _ in range(iterations):
        order = order or torch.randperm(len(photos), generator=generator).tolist()
        view = order.pop()
        # A fixed background would pass for a colour of the scene, and whatever covers it for a gain.
        background = torch.rand(3, generator=generator).to(points.xyz)
        picture, target = fit.render(cameras[view], background), photos[view]
        loss = 0.8 * (picture - target).abs().mean() + 0.2 * (1 - ssim(picture, target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return QuickFit({name: value.detach() for name, value in fit.parameters.items()})
