"""Whether seeds are put into holes: measured on photos left out, so good seeds are taken and bad ones are not."""

from dataclasses import replace

import pytest
import torch

from fvgen.generation.hole_seeding import MARGIN_DB, decide_seeding, hole_points
from fvgen.geometry.cameras import project
from fvgen.geometry.points import depth_to_points
from fvgen.types import GeneratedViews

PLANE = 4.0
SIZE = 0.06
"""Initial deviation of the Gaussians: about a pixel at the plane."""


@pytest.fixture
def half_known(plane, true_pictures):
    """The plane's four photos, of whose depth only the left half is known."""
    capture, geometry = plane
    depths = true_pictures(capture.cameras)[1]
    depths[:, :, depths.shape[2] // 2 :] = 0
    confidences = (depths > 0).float()
    points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
    return capture, replace(geometry, points=points, depths=depths, confidences=confidences)


def views_at(true_pictures, share: float):
    """Makes views from the capture's own cameras: true colours, the right half drawn at ``share`` of its depth."""

    def make(capture, geometry) -> GeneratedViews:
        rgb, depth = true_pictures(capture.cameras)
        covered = torch.zeros_like(depth, dtype=torch.bool)
        covered[:, :, : depth.shape[2] // 2] = True
        drawn = torch.where(covered, depth, share * depth)[:, None]
        count = len(rgb)
        return GeneratedViews(
            capture.cameras,
            rgb,
            drawn,
            torch.ones_like(drawn),
            torch.ones(count),
            torch.zeros(count, dtype=torch.bool),
            covered[:, None],
        )

    return make


def decide(capture, geometry, make):
    return decide_seeding(
        capture, geometry, make, lambda points: torch.full((len(points),), SIZE), scene_scale=PLANE, seed=0
    )


def test_points_come_from_the_holes_of_generated_frames_alone(half_known, true_pictures):
    capture, geometry = half_known
    views = views_at(true_pictures, 1.0)(capture, geometry)
    points = hole_points(views)
    assert len(points) > 50 and float((points.xyz[:, 2] - PLANE).abs().max()) < 1e-3
    one = hole_points(replace(views, is_photo=torch.tensor([True, True, True, False])))
    assert 0 < len(one) < len(points)
    columns = project(one.xyz, capture.cameras[3])[0][0, :, 0]
    assert float(columns.min()) > capture.cameras.width / 2 - 0.01  # what the one generated frame has left empty
    for nothing in (
        {"is_photo": torch.ones(4, dtype=torch.bool)},
        {"covered": torch.ones_like(views.covered)},
        {"depth": torch.zeros_like(views.depth)},
    ):
        assert len(hole_points(replace(views, **nothing))) == 0


@pytest.mark.parametrize(("share", "wanted"), [(1.0, True), (0.3, False)], ids=["where they are", "in mid-air"])
def test_seeds_are_taken_when_they_help_on_photos_left_out(half_known, true_pictures, share, wanted):
    capture, geometry = half_known
    decision = decide(capture, geometry, views_at(true_pictures, share))
    assert decision.seed == wanted
    assert len(decision.gains_db) == (2 if wanted else 1)  # one photo that gains nothing decides
    assert (min(decision.gains_db) > MARGIN_DB) == wanted


def test_two_photos_leave_nothing_to_leave_out(half_known, true_pictures):
    capture, geometry = half_known
    part = replace(capture, photos=capture.photos[:2], cameras=capture.cameras[[0, 1]], valid=capture.valid[:2])
    less = replace(geometry, cameras=part.cameras, depths=geometry.depths[:2], confidences=geometry.confidences[:2])
    decision = decide(part, less, views_at(true_pictures, 1.0))
    assert not decision.seed and decision.gains_db == ()


def test_without_holes_nothing_is_tried(half_known, true_pictures):
    capture, geometry = half_known

    def whole(part, known) -> GeneratedViews:
        views = views_at(true_pictures, 1.0)(part, known)
        return replace(views, covered=torch.ones_like(views.covered))

    decision = decide(capture, geometry, whole)
    assert not decision.seed and decision.gains_db == ()
