"""A textured plane seen by four cameras, with exact depth."""

from __future__ import annotations

import pytest
import torch

from fvgen.geometry.cameras import look_at, pixel_rays
from fvgen.geometry.points import depth_to_points
from fvgen.types import Cameras, Capture, PointCloud, SceneGeometry

PLANE = 4.0
HEIGHT, WIDTH = 48, 64


def plane_cameras(x: list[float]) -> Cameras:
    """Cameras at (x, 0, 0) that look at the plane z = 4."""
    eye = torch.tensor([[value, 0.1 * value, 0.0] for value in x])
    target = torch.tensor([0.0, 0, PLANE]) + 0.5 * eye
    K = torch.tensor([[60.0, 0, WIDTH / 2], [0, 60, HEIGHT / 2], [0, 0, 1]]).repeat(len(x), 1, 1)
    return Cameras(look_at(eye, target, torch.tensor([0.0, -1, 0])), K, HEIGHT, WIDTH)


def plane_pictures(cameras: Cameras) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact colour [C, 3, H, W] and depth [C, H, W] of the textured plane."""
    rays = torch.einsum("cij,chwj->chwi", cameras.c2w[:, :3, :3], pixel_rays(cameras))
    depth = (PLANE - cameras.positions[:, 2])[:, None, None] / rays[..., 2]
    xyz = cameras.positions[:, None, None] + rays * depth[..., None]
    x, y = xyz[..., 0], xyz[..., 1]
    rgb = torch.stack([(2 * x).sin(), (3 * y + x).sin(), (1.5 * x - 2 * y).cos()], 1)
    return 0.5 + 0.4 * rgb, depth


@pytest.fixture
def plane() -> tuple[Capture, SceneGeometry]:
    """Four photos; depth is unknown in two blocks of every photo."""
    cameras = plane_cameras([-0.9, -0.3, 0.3, 0.9])
    photos, depths = plane_pictures(cameras)
    depths[:, 10:30, 5:25] = 0
    depths[:, 25:45, 35:60] = 0
    confidences = (depths > 0).float()
    geometry = SceneGeometry(cameras, depth_to_points(photos, cameras, depths, confidences), depths, confidences)
    return Capture(photos, cameras, torch.ones_like(depths, dtype=torch.bool)), geometry


@pytest.fixture
def true_pictures():
    """`plane_pictures`."""
    return plane_pictures


@pytest.fixture
def no_geometry(plane) -> SceneGeometry:
    """What a provider returns when nothing is reliable."""
    nothing = torch.zeros_like(plane[1].depths)
    cloud = PointCloud(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
    return SceneGeometry(plane[0].cameras, cloud, nothing, nothing)
