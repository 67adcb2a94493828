"""Points for what the dense cloud leaves empty: where they may lie, and that they find surfaces that others see."""

from dataclasses import replace

import pytest
import torch

from fvgen.geometry.background import background_points, room_of
from fvgen.geometry.cameras import project
from fvgen.geometry.cell_maps import NEAR_FIELD, SPHERE
from fvgen.geometry.points import depth_to_points, empty_cloud, merge
from fvgen.types import Capture, SceneGeometry


def geometry_of(capture: Capture, known: torch.Tensor) -> SceneGeometry:
    """Exact depth where ``known`` [V, H, W], nothing elsewhere."""
    depths = torch.where(known, capture.depths, 0.0)
    points = depth_to_points(capture.photos, capture.cameras, depths, known.float())
    return SceneGeometry(capture.cameras, points, depths, known.float())


def left_half(capture: Capture) -> SceneGeometry:
    """Exact depth of surfaces left of the middle of the scene."""
    everything = geometry_of(capture, capture.depths > 0)
    side = (everything.points.xyz[:, 0] < 0).view(capture.depths.shape)
    return geometry_of(capture, side)


@pytest.fixture(scope="module")
def half(exact_capture):
    return left_half(exact_capture)


@pytest.fixture(scope="module")
def points(exact_capture, half):
    return background_points(exact_capture, half)


def test_points_lie_outside_near_fields_and_within_ten_radii(exact_capture, half, points):
    assert len(points) > 100
    centre = half.points.xyz.median(dim=0).values
    reach = max((x - centre).norm(dim=1).max() for x in (half.points.xyz, exact_capture.cameras.positions))
    assert ((points.xyz - centre).norm(dim=1) <= 1.1 * SPHERE * reach).all() and 1.1 * SPHERE < 10
    walls = room_of(exact_capture, half)
    distance = (points.xyz @ walls[:, :3].T - walls[:, 3]).abs()
    free = ~(distance < 0.05 * points.xyz.norm(dim=1, keepdim=True)).any(dim=1)
    for depth, position in zip(half.depths, exact_capture.cameras.positions, strict=True):
        assert (points.xyz[free] - position).norm(dim=1).min() > NEAR_FIELD * depth[depth > 0].min()


def test_no_point_stands_before_what_is_covered(exact_capture, half, points):
    cameras = exact_capture.cameras
    uv, z = project(points.xyz, cameras)
    for i in range(len(cameras)):
        inside = (uv[i] >= 2).all(1) & (uv[i, :, 0] < cameras.width - 2) & (uv[i, :, 1] < cameras.height - 2)
        column, row = uv[i][inside].long().T
        known = half.depths[i][row, column]
        assert ((known > 0) & (z[i][inside] < 0.9 * known)).float().mean() < 0.02


def test_surfaces_that_two_photos_show_are_found(exact_capture, half, points):
    cameras = exact_capture.cameras
    uv, z = project(points.xyz, cameras[1])
    column, row = uv[0].long().T
    inside = (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    truth = exact_capture.depths[1][row[inside], column[inside]]
    assert ((z[0][inside] / truth - 1).abs().median()) < 0.1


def test_everything_covered_and_nothing_covered_give_nothing(exact_capture):
    assert not len(background_points(exact_capture, geometry_of(exact_capture, exact_capture.depths > 0)))
    nothing = replace(left_half(exact_capture), points=empty_cloud())
    assert not len(background_points(exact_capture, nothing))


def test_masked_pixels_get_no_points(exact_capture, half):
    valid = exact_capture.valid.clone()
    valid[:, :, 60:] = False
    seen, _ = project(background_points(replace(exact_capture, valid=valid), half).xyz, exact_capture.cameras)
    assert (seen[..., 0] < 62).any(dim=0).all()  # each is of a photo that shows it


def test_the_scale_of_the_scene_does_not_matter(exact_capture, half, points):
    cameras = exact_capture.cameras
    c2w = cameras.c2w.clone()
    c2w[:, :3, 3] *= 16
    larger = replace(exact_capture, cameras=replace(cameras, c2w=c2w), depths=16 * exact_capture.depths)
    torch.testing.assert_close(background_points(larger, left_half(larger)).xyz, 16 * points.xyz, rtol=1e-3, atol=1e-2)


def test_detail_gets_more_points(exact_capture, half, points):
    flat = replace(exact_capture, photos=torch.full_like(exact_capture.photos, 0.5))
    assert len(points) > 2 * len(background_points(flat, half))


def test_sparse_points_say_how_deep_an_empty_place_is(exact_capture, half):
    """Grey photos say nothing about depth: only the points do."""
    grey = replace(exact_capture, photos=torch.full_like(exact_capture.photos, 0.5))
    known = replace(half, points=replace(half.points, rgb=torch.full_like(half.points.rgb, 0.5)))
    everything = geometry_of(grey, exact_capture.depths > 0).points
    right = everything[everything.xyz[:, 0] >= 0][::20]
    strangers = replace(right, xyz=4 * right.xyz, rgb=right.rgb + 0.3)  # in another colour: hidden by something
    far_off = replace(right, xyz=1e5 * right.xyz)
    errors = []
    for sparse in (None, right, merge([right, strangers]), far_off):
        points = background_points(replace(grey, sparse=sparse), known)
        uv, z = project(points.xyz, grey.cameras[1])
        column, row = uv[0].long().T
        inside = (column >= 0) & (column < grey.cameras.width) & (row >= 0) & (row < grey.cameras.height)
        truth = grey.depths[1][row[inside], column[inside]]
        errors.append(float((z[0][inside] / truth - 1).abs().median()))
        assert points.xyz.norm(dim=1).max() < 10 * exact_capture.depths.max()
    none, own, with_strangers, _ = errors
    assert own < 0.5 * none and with_strangers == own
