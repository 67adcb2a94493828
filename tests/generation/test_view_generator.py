"""What every weights-free generator owes, and what each of them is for."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from fvgen.checks import InputError
from fvgen.generation.confidence import IN_HOLES
from fvgen.generation.reprojection import fill_depth, push_pull
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.trajectory import PATH_STYLES, clips_of, path_between
from fvgen.metrics import psnr
from fvgen.models.find import NEEDS_MODEL
from fvgen.rendering.point_renderer import resolve
from fvgen.types import Cameras, Capture, GeneratedViews

GENERATORS = [name for name in VIEW_GENERATORS if name not in NEEDS_MODEL]  # the others: test_diffusion_views.py
DRAWING = [name for name in GENERATORS if name != "none"]


def equal(a: GeneratedViews, b: GeneratedViews) -> bool:
    names = [field.name for field in fields(GeneratedViews) if field.name != "cameras"]
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("name", GENERATORS)
def test_photos_pass_through_untouched(name, plane):
    capture, geometry = plane
    path = path_between(capture.cameras, [2, 0, 1, 3], False, 4)
    views = VIEW_GENERATORS[name]().generate(capture, geometry, path)
    assert torch.equal(views.rgb[views.is_photo], capture.photos[[2, 0, 1, 3]])
    assert (views.pixel_confidence[views.is_photo] == 1).all() and (views.view_confidence[views.is_photo] == 1).all()
    assert len(views) == (4 if name == "none" else len(path))


@pytest.mark.parametrize("name", DRAWING)
@pytest.mark.parametrize("style", PATH_STYLES)
def test_views_are_sound(name, style, plane):
    capture, geometry = plane
    path = PATH_STYLES[style](capture.cameras, 4)
    views = VIEW_GENERATORS[name]().generate(capture, geometry, path)
    assert len(views) == len(path) and torch.equal(views.is_photo, path.photo >= 0)
    for value in (views.rgb, views.pixel_confidence, views.view_confidence, views.depth):
        assert torch.isfinite(value).all() and float(value.min()) >= 0
    assert max(float(views.rgb.max()), float(views.pixel_confidence.max())) <= 1
    drawn = ~views.is_photo
    assert (views.pixel_confidence[drawn] >= IN_HOLES - 1e-7).all() and IN_HOLES > 0
    if name == "warp":
        assert (views.depth[drawn] > 0).all()


@pytest.mark.parametrize("name", DRAWING)
def test_a_clip_does_not_depend_on_the_others(name, plane):
    capture, geometry = plane
    path = path_between(capture.cameras, range(4), False, 4)
    whole = VIEW_GENERATORS[name]().generate(capture, geometry, path, seed=3)
    for clip in clips_of(path):
        alone = VIEW_GENERATORS[name]().generate(capture, geometry, path.part(clip), seed=3)
        part = GeneratedViews(whole.cameras[clip], *(getattr(whole, f.name)[clip] for f in fields(whole)[1:]))
        # vectorised sums may end differently by where operands lie in memory: one unit in the last place
        for field in fields(alone)[1:]:
            assert torch.allclose(getattr(alone, field.name).float(), getattr(part, field.name).float(), atol=1e-6)


@pytest.mark.parametrize("name", DRAWING)
def test_progress_is_told_and_ends(name, plane):
    reports = []
    path = path_between(plane[0].cameras, range(4), False, 4)
    VIEW_GENERATORS[name]().generate(*plane, path, 0, lambda done, total, what: reports.append((done, total, what)))
    assert reports[-1][0] == reports[-1][1] == 6 and [done for done, _, _ in reports] == sorted(
        done for done, _, _ in reports
    )


def test_points_is_the_teachers_render(plane):
    capture, geometry = plane
    path = path_between(capture.cameras, range(4), False, 3)
    views = VIEW_GENERATORS["points"]().generate(capture, geometry, path)
    drawn = ~views.is_photo
    render = resolve("teacher").render(geometry.points, path.cameras[drawn])
    assert torch.equal(views.rgb[drawn], render.rgb) and torch.equal(views.depth[drawn], render.depth)
    assert torch.equal(views.covered[drawn], render.depth > 0)


def test_warp_draws_the_true_view_also_in_holes(plane, true_pictures):
    """Smooth continuation of inverse depth is exact on a plane up to the fill's smoothness."""
    capture, geometry = plane
    path = path_between(capture.cameras, range(4), False, 4)
    views = VIEW_GENERATORS["warp"]().generate(capture, geometry, path)
    truth, depth = true_pictures(path.cameras)
    drawn = ~views.is_photo
    hole = ~views.covered[drawn]
    assert 0.02 < float(hole.float().mean()) < 0.5
    assert float(psnr(views.rgb[drawn], truth[drawn]).mean()) > 32
    assert float(((views.depth[drawn] / depth[drawn, None] - 1)[hole]).abs().median()) < 0.02
    confidence = views.pixel_confidence[drawn]
    assert float(confidence[~hole].mean()) > float(confidence[hole].mean())


def test_warp_without_any_depth_still_gives_views_of_little_confidence(plane, no_geometry):
    capture, _ = plane
    path = path_between(capture.cameras, range(4), False, 3)
    views = VIEW_GENERATORS["warp"]().generate(capture, no_geometry, path)
    drawn = ~views.is_photo
    assert not views.covered[drawn].any()
    assert float(views.view_confidence[drawn].max()) < 0.1
    assert float(views.rgb[drawn].min()) > 0.05  # the photos' colours, not black


def test_colours_outside_all_photos_continue_the_picture(plane):
    capture, geometry = plane
    turned = capture.cameras.c2w[:1].clone()
    angle = torch.tensor(0.9)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    turned[0, :3, :3] = turned[0, :3, :3] @ turn
    path = PATH_STYLES["between"](capture.cameras, 3)
    aside = path.part(torch.tensor([1]))
    camera = Cameras(turned, capture.cameras.K[:1], capture.cameras.height, capture.cameras.width)
    aside = type(aside)(camera, aside.ends, aside.position, aside.photo)
    views = VIEW_GENERATORS["warp"]().generate(capture, geometry, aside)
    low, high = capture.photos.amin(dim=(0, 2, 3)), capture.photos.amax(dim=(0, 2, 3))
    assert (views.rgb.amin(dim=(0, 2, 3)) >= low - 1e-4).all() and (views.rgb.amax(dim=(0, 2, 3)) <= high + 1e-4).all()


def test_invalid_photo_pixels_give_no_colour(plane):
    capture, geometry = plane
    marked = capture.photos.clone()
    marked[:, :, :, :12] = torch.tensor([1.0, 0, 1])[:, None, None]
    valid = capture.valid.clone()
    valid[:, :, :14] = False
    broken = Capture(marked, capture.cameras, valid)
    path = path_between(capture.cameras, range(4), False, 3)
    masked = Capture(capture.photos, capture.cameras, valid)
    clean, used = (VIEW_GENERATORS["warp"]().generate(c, geometry, path) for c in (masked, broken))
    drawn = ~clean.is_photo
    assert_close(clean.rgb[drawn], used.rgb[drawn])


def test_push_pull_keeps_what_is_known_and_stays_in_range():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(2, 3, 21, 34, generator=generator)
    weight = (torch.rand(2, 1, 21, 34, generator=generator) < 0.1).float()
    filled = push_pull(values, weight)
    known = weight.expand_as(values) > 0
    assert torch.equal(filled[known], values[known])
    assert float(filled.min()) >= float(values[known].min()) and float(filled.max()) <= float(values[known].max())


def test_depth_fill_of_a_frame_without_depth_is_the_fallback():
    depth = torch.zeros(2, 1, 8, 8)
    depth[1, 0, 3, 3] = 2
    filled = fill_depth(depth, 5.0)
    assert_close(filled[0], torch.full((1, 8, 8), 5.0))
    assert_close(filled[1], torch.full((1, 8, 8), 2.0))


@pytest.mark.parametrize("name", DRAWING)
def test_a_path_of_another_image_size_is_refused(name, plane):
    capture, geometry = plane
    other = Cameras(capture.cameras.c2w, capture.cameras.K, 20, 30)
    with pytest.raises(InputError, match="image size must be the capture's 64x48, got 30x20"):
        VIEW_GENERATORS[name]().generate(capture, geometry, path_between(other, range(4), False, 3))
