"""What photos and views saw, of a wall that stands before another."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras
from fvgen_ns.splat.support import GENERATED_ORANGE, NOTHING_GREY, PHOTO_BLUES, Support, Witness, measure_support

SIDE = 48


def wall(depth: float, left: float, right: float) -> torch.Tensor:
    """[N, 3] a dense grid of centres at a depth, from one x to another at depth 1, seen from the origin."""
    x, y = torch.meshgrid(torch.arange(left, right, 0.02), torch.arange(-0.5, 0.5, 0.02), indexing="ij")
    return depth * torch.stack([x.flatten(), y.flatten(), torch.ones(x.numel())], dim=1)


def camera(x: float) -> Cameras:
    """At (x, 0, 0), looking along z."""
    c2w = torch.eye(4)[None].clone()
    c2w[0, 0, 3] = x
    K = torch.tensor([[[float(SIDE), 0, SIDE / 2], [0, float(SIDE), SIDE / 2], [0, 0, 1]]])
    return Cameras(c2w, K, SIDE, SIDE)


def splat(means: torch.Tensor) -> dict[str, torch.Tensor]:
    """Opaque Gaussians, before activation."""
    count = len(means)
    return {
        "means": means,
        "scales": (0.012 * means[:, 2:]).log().expand(count, 3).contiguous(),
        "quats": torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        "opacities": torch.full((count, 1), 4.0),
    }


def render(gaussians, view):
    colours = torch.zeros(len(gaussians["means"]), 1, 3)
    return resolve("torch", "cpu").rasterize(
        gaussians["means"],
        gaussians["quats"],
        gaussians["scales"].exp(),
        gaussians["opacities"].sigmoid()[:, 0],
        colours,
        view,
        0,
    )


def test_a_wall_is_seen_where_nothing_stands_before_it():
    near, far = wall(2.0, -0.5, 0.0), wall(4.0, -0.45, 0.45)
    ones = torch.ones(SIDE, SIDE)
    photo, view = Witness(camera(0.0), ones, True), Witness(camera(-1.5), 0.5 * ones, False)
    found = measure_support(splat(torch.cat([near, far])), [photo, view], render)
    of_near, of_far = found.photos[: len(near)], found.photos[len(near) :]
    hidden, free = far[:, 0] < -0.2, far[:, 0] > 0.2
    assert of_near.float().mean() > 0.9
    assert of_far[hidden].float().mean() < 0.02 and of_far[free].float().mean() > 0.95
    confidence = found.confidence[len(near) :]
    assert torch.equal(found.confidence == 1, found.photos == 1)
    behind_for_both = far[:, 0] < -1.4
    assert (confidence[behind_for_both] <= 0.5).all()
    assert len(found.of_photos()["means"]) == int((found.photos > 0).sum())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.01, 1)), min_size=1, max_size=8))
def test_colours_tell_photos_views_and_nothing_apart(seen):
    photos = torch.tensor([count for count, _ in seen])
    confidence = torch.tensor([1.0 if count else value for count, value in seen])
    colours = Support({}, photos, confidence).colours
    for colour, (count, _) in zip(colours, seen, strict=True):
        expected = PHOTO_BLUES[min(count, 3) - 1] if count else GENERATED_ORANGE
        torch.testing.assert_close(colour, torch.tensor(expected))
    nothing = Support({}, torch.zeros(1, dtype=torch.int64), torch.zeros(1)).colours
    torch.testing.assert_close(nothing[0], torch.tensor(NOTHING_GREY))
