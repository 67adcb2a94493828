"""Trials: what helps on photos left out wins over the default, what hurts or makes no difference does not."""

from dataclasses import replace

import pytest
import torch

from fvgen.generation.hole_points import hole_points
from fvgen.generation.trials import Addition, Trials, fit_splat, run_trials
from fvgen.geometry.cameras import project
from fvgen.geometry.points import depth_to_points, merge
from fvgen.types import GeneratedViews

PLANE = 4.0


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Fits that show the difference, no longer."""
    monkeypatch.setattr("fvgen.generation.trials.ITERATIONS", 50)


@pytest.fixture
def half_known(plane, true_pictures):
    """The plane's four photos, of whose depth only the left half is known."""
    capture, geometry = plane
    depths = true_pictures(capture.cameras)[1]
    depths[:, :, depths.shape[2] // 2 :] = 0
    confidences = (depths > 0).float()
    points = depth_to_points(capture.photos, capture.cameras, depths, confidences)
    return capture, replace(geometry, points=points, depths=depths, confidences=confidences)


def views_at(true_pictures, capture, share: float) -> GeneratedViews:
    """Views from the capture's own cameras: true colours, the right half drawn at ``share`` of its depth."""
    rgb, depth = true_pictures(capture.cameras)
    covered = torch.zeros_like(depth, dtype=torch.bool)
    covered[:, :, : depth.shape[2] // 2] = True
    drawn = torch.where(covered, depth, share * depth)[:, None]
    count = len(rgb)
    is_photo = torch.zeros(count, dtype=torch.bool)
    return GeneratedViews(
        capture.cameras, rgb, drawn, torch.ones_like(drawn), torch.ones(count), is_photo, covered[:, None]
    )


def test_points_come_from_the_holes_of_generated_frames_alone(half_known, true_pictures):
    capture, _ = half_known
    views = views_at(true_pictures, capture, 1.0)
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


def test_points_in_their_place_win_and_points_in_mid_air_do_not(half_known, true_pictures):
    kept = []

    def make(part, known):
        kept.append(part.cameras.positions)
        true, wrong = (hole_points(views_at(true_pictures, part, share)) for share in (1.0, 0.3))
        return {
            "default": Addition(known.points),
            "wrong": Addition(known.points, background=wrong),
            "right": Addition(merge([known.points, true])),
        }

    trials = run_trials(*half_known, make, scene_scale=PLANE, seed=0)
    assert [len(positions) for positions in kept] == [3, 3, 3, 3]
    assert {name: len(errors) for name, errors in trials.errors.items()} == {"default": 4, "wrong": 4, "right": 4}
    assert trials.winner() == "right"
    assert trials.mean("right") < 0.8 * trials.mean("default")
    for preferred in ("default", "right"):
        assert Trials({name: trials.errors[name] for name in (preferred, "wrong")}).winner() == preferred


def test_threads_change_nothing(half_known, monkeypatch):
    monkeypatch.setattr("fvgen.generation.trials.ITERATIONS", 8)

    def make(part, known):
        return {str(count): Addition(known.points[torch.arange(len(known.points)) % count == 0]) for count in (1, 2, 3)}

    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(run_trials(*half_known, make, scene_scale=PLANE, seed=0).errors)
    torch.set_num_threads(before)
    assert list(found[1]) == ["1", "2", "3"] and found[0] == found[1]


def test_a_fit_learns_from_views_what_photos_do_not_show(plane, true_pictures):
    capture, _ = plane
    rgb, depth = true_pictures(capture.cameras)
    points = depth_to_points(torch.full_like(rgb, 0.5), capture.cameras, depth, torch.ones_like(depth))
    shown = torch.arange(rgb.shape[3]) < rgb.shape[3] // 2
    half = replace(capture, valid=shown.expand_as(depth))

    def error(views):
        fit = fit_splat(Addition(points, views=views), half, scene_scale=PLANE, seed=0)
        picture = fit.render(capture.cameras[1], torch.zeros(3))
        difference = (picture - rgb[1]).abs()
        return float(difference[..., shown].mean()), float(difference[..., ~shown].mean())

    views = views_at(true_pictures, capture, 1.0)
    true, false = error(views), error(replace(views, rgb=1 - views.rgb))
    without, photos_again = error(None), error(replace(views, is_photo=~views.is_photo))
    assert true[0] == pytest.approx(without[0], abs=0.02) and photos_again == without
    assert true[1] < without[1] - 0.01 < without[1] + 0.01 < false[1]


def test_two_photos_leave_nothing_to_leave_out(half_known):
    capture, geometry = half_known
    part = capture[[0, 1]]
    less = replace(geometry, cameras=part.cameras, depths=geometry.depths[:2], confidences=geometry.confidences[:2])
    trials = run_trials(part, less, lambda *_: pytest.fail("nothing can be tried"), scene_scale=PLANE, seed=0)
    assert trials.errors == {}


def test_a_preferred_candidate_stays_unless_another_wins_by_more_than_its_noise():
    errors = {
        "default": (0.10, 0.20, 0.10, 0.20),
        "clearly better": (0.09, 0.18, 0.09, 0.18),
        "better still": (0.08, 0.15, 0.08, 0.17),
        "better on the mean": (0.04, 0.21, 0.11, 0.21),
        "a hair better": (0.099, 0.198, 0.099, 0.198),
        "worse": (0.2, 0.3, 0.2, 0.3),
    }
    gain, noise = Trials(errors).gain("better still", "default")
    ratios = torch.tensor([0.10 / 0.08, 0.20 / 0.15, 0.10 / 0.08, 0.20 / 0.17]).log()
    assert (gain, noise) == pytest.approx((ratios.mean().item(), ratios.std().item() / 2))

    def winner(*names):
        return Trials({name: errors[name] for name in names}).winner()

    assert winner("default") == "default"
    assert winner("default", "clearly better") == "clearly better"
    assert winner("default", "clearly better", "better still", "worse") == "better still"
    assert winner("default", "better still", "clearly better") == "better still"  # preferred, and no worse
    for name in ("better on the mean", "a hair better", "worse"):
        assert winner("default", name) == "default"
