"""Frames take their depth from the background where the cloud leaves more than a gap."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from fvgen.generation.reprojection import completed_depth
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.cameras import unproject
from fvgen.geometry.trajectory import path_between
from fvgen.types import Cameras, Capture, PointCloud, SceneGeometry

NEAR, FAR = 2.0, 6.0
HEIGHT, WIDTH = 48, 64


def cameras() -> Cameras:
    """Two, side by side."""
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[1, 0, 3] = 0.2
    K = torch.tensor([[60.0, 0, WIDTH / 2], [0, 60.0, HEIGHT / 2], [0, 0, 1]]).repeat(2, 1, 1)
    return Cameras(c2w, K, HEIGHT, WIDTH)


def points_at(depth: float) -> PointCloud:
    """One for each pixel of the first camera."""
    xyz = unproject(torch.full((1, HEIGHT, WIDTH), depth), cameras()[0]).reshape(-1, 3)
    return PointCloud(xyz, torch.full_like(xyz, 0.5), torch.ones(len(xyz)))


def scene() -> tuple[SceneGeometry, torch.Tensor]:
    """A near cloud in the left half, with a gap of one pixel, before a far background; the near depth [1, 1, H, W]."""
    depth = torch.zeros(1, 1, HEIGHT, WIDTH)
    depth[..., : WIDTH // 2] = NEAR
    depth[..., 20, 10] = 0
    near = points_at(NEAR)
    known = (depth > 0).flatten()
    cloud = PointCloud(near.xyz[known], near.rgb[known], near.confidence[known])
    depths = torch.cat([depth[0], torch.zeros(1, HEIGHT, WIDTH)])
    return SceneGeometry(cameras(), cloud, depths, (depths > 0).float(), points_at(FAR)), depth


def test_the_background_gives_the_depth_away_from_the_cloud():
    geometry, depth = scene()
    full = completed_depth(depth, geometry, geometry.cameras[0], far=NEAR)
    assert torch.equal(full[depth > 0], depth[depth > 0])
    assert_close(full[..., WIDTH // 2 + 8 :], torch.full((1, 1, HEIGHT, WIDTH // 2 - 8), FAR))
    between = full[..., WIDTH // 2 : WIDTH // 2 + 8]
    assert float(between.min()) >= NEAR - 1e-4 and float(between.max()) <= FAR + 1e-4


def test_the_background_does_not_show_through_gaps_of_the_cloud():
    geometry, depth = scene()
    assert_close(float(completed_depth(depth, geometry, geometry.cameras[0], far=NEAR)[0, 0, 20, 10]), NEAR)


def test_warped_views_stand_before_the_background():
    geometry, _ = scene()
    photos = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    capture = Capture(photos, geometry.cameras, torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool))
    path = path_between(capture.cameras, [0, 1], False, 3)
    (drawn,) = VIEW_GENERATORS["warp"]().generate(capture, geometry, path).depth[[1]]
    assert_close(drawn[0, 24, WIDTH - 8], torch.tensor(FAR))
    assert_close(drawn[0, 24, 12], torch.tensor(NEAR))
