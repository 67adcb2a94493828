"""Confidence falls with everything that makes a pixel wrong, and never to zero: in warped and in generated frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fvgen.generation.confidence import (
    IN_HOLES,
    depth_agreement,
    generated_pixel_confidence,
    generated_view_confidence,
    photo_agreement,
    seed_disagreement,
    view_confidence,
    warped_pixel_confidence,
)
from fvgen.generation.reprojection import Neighbours, PhotosBeside, cover_distance
from fvgen.geometry.trajectory import path_between
from fvgen.rendering.point_renderer import resolve


def confidence(covered=True, disagreement=0.0, seen=1.0, points=1.0, away=1.0) -> float:
    """Confidence of a pixel in the middle of a 21x21 picture whose left column is covered."""
    mask = torch.zeros(1, 1, 21, 21, dtype=torch.bool)
    mask[..., 0] = True
    mask[..., 10, 10] = covered
    full = [torch.full((1, 1, 21, 21), value) for value in (disagreement, seen, points)]
    return float(warped_pixel_confidence(mask, *full, away)[0, 0, 10, 10])


def test_a_perfect_pixel_has_full_confidence():
    assert confidence() == 1


def test_confidence_falls_with_each_reason_for_doubt():
    assert confidence() > confidence(points=0.5) > confidence(covered=False) > 0
    assert confidence() > confidence(disagreement=0.1) > confidence(disagreement=0.3)
    assert 1 >= confidence(covered=False, away=0.0) > confidence(covered=False, away=0.5) > confidence(covered=False)
    assert confidence() > confidence(seen=0.5) > confidence(seen=0.0)


def test_confidence_never_vanishes():
    assert confidence(covered=False, disagreement=1.0, seen=0.0, points=0.0) == torch.tensor(IN_HOLES)
    nothing = torch.zeros(1, 1, 5, 5)
    assert (warped_pixel_confidence(nothing.bool(), nothing, nothing, nothing) == IN_HOLES).all()


def test_distance_to_the_cover_is_a_share_of_the_diagonal():
    mask = torch.zeros(2, 1, 30, 40, dtype=torch.bool)
    mask[0, 0, :, 0] = True
    distance = cover_distance(mask)
    torch.testing.assert_close(distance[0, 0, 3], torch.arange(40) / 50, atol=0.01, rtol=0)
    assert (distance[1] == 1).all()


def test_view_confidence_is_the_mean():
    maps = torch.rand(3, 1, 4, 5)
    torch.testing.assert_close(view_confidence(maps), maps.flatten(1).mean(1))


@pytest.fixture
def middle(plane, true_pictures):
    """One frame between two photos: camera, true colour and depth, render, and the photos with their true depth."""
    capture, geometry = plane
    camera = path_between(capture.cameras, [1, 2], False, 3).cameras[1]
    rgb, depth = true_pictures(camera)
    two = [1, 2]
    _, depths = true_pictures(capture.cameras[two])
    known = torch.ones_like(depths, dtype=torch.bool)[:, None]
    beside = Neighbours(capture.photos[two], capture.valid[two], capture.cameras[two], depths[:, None], known)
    render = resolve("teacher").render(geometry.points, camera, 0.03)
    return camera, rgb, depth[:, None], render, beside


def test_true_depth_agrees_and_floating_depth_is_contradicted(middle):
    camera, _, depth, _, beside = middle
    inside = (slice(None), slice(None), slice(10, -10), slice(15, -15))
    assert (depth_agreement(beside.reprojected(camera, depth))[inside] == 1).all()
    floating = depth_agreement(beside.reprojected(camera, 0.5 * depth))[inside]
    assert float(floating.max()) < 0.6 and float(floating.min()) > 0


def test_what_lies_behind_a_photos_surface_is_not_contradicted(middle):
    camera, _, depth, _, beside = middle
    assert (depth_agreement(beside.reprojected(camera, 1.5 * depth)) == 1).all()


def test_filled_depth_contradicts_nobody(middle):
    camera, _, depth, _, beside = middle
    unknown = replace(beside, known=torch.zeros_like(beside.known))
    assert (depth_agreement(unknown.reprojected(camera, 0.5 * depth)) == 1).all()


def test_colours_that_left_the_points_lose_confidence(middle):
    _, rgb, depth, render, _ = middle
    one = torch.ones_like(depth)
    kept = generated_pixel_confidence(rgb, render, one)
    changed = generated_pixel_confidence((rgb + 0.4) % 1, render, one)
    covered = render.depth > 0
    assert float(kept[covered].mean()) > 0.7 > 2 * float(changed[covered].mean())
    assert torch.equal(kept[~covered], changed[~covered])  # nothing is known there
    assert float(kept[covered].mean()) > float(kept[~covered].mean()) > IN_HOLES
    halved = generated_pixel_confidence(rgb, render, 0.5 * one)
    assert torch.allclose(halved[covered], (0.5 * kept[covered]).clamp_min(IN_HOLES))


def test_disagreeing_seeds_lower_confidence_everywhere(middle):
    _, rgb, depth, render, _ = middle
    one = torch.ones_like(depth)
    spread = seed_disagreement(torch.stack([rgb, (rgb + 0.3).clamp(0, 1)]))
    assert spread.shape == depth.shape and float(spread.max()) <= 0.15 + 1e-6
    alone, together = generated_pixel_confidence(rgb, render, one), generated_pixel_confidence(rgb, render, one, spread)
    assert (together <= alone).all() and float(together.mean()) < 0.7 * float(alone.mean())
    same = seed_disagreement(torch.stack([rgb, rgb]))
    assert torch.equal(generated_pixel_confidence(rgb, render, one, same), alone)


def test_a_view_is_compared_with_what_the_photos_show(middle):
    camera, rgb, depth, render, beside = middle
    covered = render.depth > 0
    there = beside.reprojected(camera, depth)
    true = generated_view_confidence(rgb, covered, there)
    shifted = generated_view_confidence(rgb.roll(12, dims=-1), covered, there)
    invented = generated_view_confidence(torch.zeros_like(rgb), covered, there)
    assert true > 0.97 and true > shifted + 0.1 and invented < 0.2


def test_a_view_that_no_photo_sees_gets_even_odds(middle):
    camera, rgb, depth, render, beside = middle
    nobody = replace(beside, valid=torch.zeros_like(beside.valid))
    assert generated_view_confidence(rgb, render.depth > 0, nobody.reprojected(camera, depth)) == 0.5


def test_all_photos_together_contradict_a_wrong_depth(plane, true_pictures):
    capture, geometry = plane
    path = path_between(capture.cameras, [1, 2], closed=False, frames_per_clip=3)
    camera = path.cameras[1]
    rgb, depth = true_pictures(camera)
    photos = PhotosBeside(capture, geometry, path.ends)

    def agreement(rgb: torch.Tensor, depth: torch.Tensor) -> float:
        return photo_agreement(rgb, photos.reprojected(depth[None], camera, path.ends[1])[1])

    assert agreement(rgb, depth) > 0.95
    nearest = capture.photos[1:2]  # drawn as it is: right by no depth
    assert agreement(rgb, depth) > agreement(rgb, 0.8 * depth) and agreement(rgb, depth) > agreement(nearest, depth)
