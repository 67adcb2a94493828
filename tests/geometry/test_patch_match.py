import math

import numpy as np
import pytest
import torch

from fvgen.geometry.cameras import look_at, pixel_rays, project, unproject
from fvgen.geometry.correlation import VARIANCE_FLOOR
from fvgen.geometry.patch_match import PatchMatch, _View
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.geometry.view_pairs import ViewPairs, choose_neighbours, pairs_from_points
from fvgen.types import Cameras, Capture

HEIGHT, WIDTH = 60, 80
SLANTS = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.7, -0.7)]


def wall(slant: tuple[float, float]) -> tuple[torch.Tensor, Cameras, torch.Tensor]:
    """Grey photos [2, H, W] of a textured wall, from (0, 0, 0) ahead and from aside, and its inverse depth [H, W] in
    the first: 0.2 on the axis, changing by ``slant``."""
    eye = torch.tensor([[0.0, 0, 0], [3.0, 0.5, 0.5]])
    K = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(look_at(eye, torch.tensor([0.0, 0, 5]), torch.tensor([0.0, -1, 0])), K, HEIGHT, WIDTH)
    normal = torch.tensor([*slant, 1.0]) @ cameras.c2w[0, :3, :3].T  # of the plane normal . x = 5
    rays = torch.einsum("cij,chwj->chwi", cameras.c2w[:, :3, :3], pixel_rays(cameras))
    depth = (5 - cameras.positions @ normal)[:, None, None] / (rays @ normal)
    xyz = cameras.positions[:, None, None] + rays * depth[..., None]
    generator = torch.Generator().manual_seed(0)
    grey = torch.full(xyz.shape[:3], 0.5)
    for _ in range(24):
        direction = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
        frequency = 2 + 8 * float(torch.rand(1, generator=generator))
        grey += 0.08 * torch.sin(frequency * (xyz @ direction) + 6 * float(torch.rand(1, generator=generator)))
    return grey, cameras, 1 / depth[0]


def as_capture(greys: torch.Tensor, cameras: Cameras) -> Capture:
    return Capture(greys[:, None].repeat(1, 3, 1, 1), cameras, torch.ones_like(greys, dtype=torch.bool))


BOTH = ViewPairs([[1], [0]], [(2.0, 9.0), (2.0, 12.0)])


@pytest.mark.parametrize("slant", SLANTS)
def test_a_wall_is_found_from_random_planes(slant):
    greys, cameras, inverse_depth = wall(slant)
    depth, scores = PatchMatch().refine(greys, cameras, BOTH, torch.zeros_like(greys))
    seen = scores[0] > 0.8
    right = (depth[0] * inverse_depth - 1).abs() < 0.02
    assert float(seen.float().mean()) > 0.6
    assert float(right[seen].float().mean()) > 0.8  # no filter yet, and sampling blurs what is seen at a flat angle


def test_the_score_is_the_correlation_of_the_window_seen_through_its_plane():
    # one photo ahead of the other: planes of constant depth, so the windows can be carried over point by point
    K = torch.tensor([[60.0, 0, 20], [0, 60, 15], [0, 0, 1]]).repeat(2, 1, 1)
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[1, 0, 3] = 0.3
    cameras = Cameras(c2w, K, 30, 40)
    greys = torch.rand(2, 30, 40, generator=torch.Generator().manual_seed(1))
    depths = torch.full((2, 30, 40), 3.0)
    pairs = ViewPairs([[1], []], [(1.0, 9.0), None])
    match = PatchMatch(steps=(), radius=4, stride=2)  # no steps: the score of its random start
    depth, scores = match.refine(greys, cameras, pairs, depths)
    assert torch.equal(depth[0], depths[0]) and float(scores[1].abs().max()) == 0
    planes = _View(greys, cameras, 0, pairs, depths[0]).planes
    y, x = 14, 22
    rows, columns = np.mgrid[y - 4 : y + 5 : 2, x - 4 : x + 5 : 2]
    near = planes[0, y, x] + planes[1, y, x] * (columns - x) + planes[2, y, x] * (rows - y)
    u = columns - 60 * 0.3 * near  # the other camera stands 0.3 to the right
    low = np.floor(u).astype(int)
    other = greys[1].numpy().astype(np.float64)
    warped = other[rows, low] * (low + 1 - u) + other[rows, low + 1] * (u - low)
    own = greys[0].numpy().astype(np.float64)[rows, columns]
    distance = (rows - y) ** 2 + (columns - x) ** 2
    weight = np.exp(-2 * distance / 16 - np.abs(own - own[2, 2]) / match.contrast)
    weight /= weight.sum()
    mean, there = (weight * own).sum(), (weight * warped).sum()
    spread = [(weight * v * v).sum() - m * m + VARIANCE_FLOOR for v, m in ((own, mean), (warped, there))]
    expected = ((weight * own * warped).sum() - mean * there) / math.sqrt(spread[0] * spread[1])
    assert float(scores[0, y, x]) == pytest.approx(expected, abs=2e-4)  # float32 sums of 25 samples


def test_rounds_that_ask_for_consistency_bring_the_photos_together():
    greys, cameras, _ = wall((1.0, 0.0))
    apart = []
    for rounds in ((10,), (4, 3, 3)):
        depths, _ = PatchMatch(steps=rounds).refine(greys, cameras, BOTH, torch.zeros_like(greys))
        world = unproject(depths[:1], cameras[0])[0].reshape(-1, 3)
        place, reach = (part[0] for part in project(world, cameras[1]))
        inside = (place >= 0).all(1) & (place < torch.tensor([WIDTH, HEIGHT])).all(1)
        pixel = place[inside].long()
        apart.append(float((depths[1][pixel[:, 1], pixel[:, 0]] / reach[inside] - 1).abs().lt(0.01).float().mean()))
    assert apart[1] > apart[0]


def test_the_same_on_any_number_of_threads():
    greys, cameras, _ = wall((0.0, 1.0))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(PatchMatch().refine(greys, cameras, BOTH, torch.zeros_like(greys)))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_missing_pixels_and_lonely_photos_are_left_alone():
    greys, cameras, _ = wall((0.0, 0.0))
    greys[0, 20:30, 20:30] = math.nan
    start = torch.full_like(greys, 5.0)
    depth, scores = PatchMatch().refine(greys, cameras, ViewPairs([[1], []], [(2.0, 9.0), None]), start)
    assert torch.equal(depth[1], start[1]) and float(scores[1].abs().max()) == 0
    assert torch.equal(depth[0, 20:30, 20:30], start[0, 20:30, 20:30])
    assert float(scores[0, 20:30, 20:30].abs().max()) == 0
    assert bool(torch.isfinite(depth).all()) and bool(torch.isfinite(scores).all())


def test_two_photos_far_apart_find_a_slanted_wall():
    greys, cameras, inverse_depth = wall((0.0, 1.0))
    shares = []
    for photos in (0, 3):
        geometry = PlaneSweep(hypotheses=64, slanted_photos=photos).reconstruct(as_capture(greys, cameras))
        right = (geometry.depths[0] * inverse_depth - 1).abs() < 0.02
        shares.append(float(right.float().mean()))
    assert shares[1] > 0.3 and shares[1] > 1.5 * shares[0]


def test_photos_that_stand_too_far_aside_are_compared_only_where_there_is_no_other():
    angles = torch.tensor([0.0, 50.0, 100.0]).deg2rad()
    eye = 5 * torch.stack([angles.sin(), torch.zeros(3), -angles.cos()], dim=1)
    K = torch.tensor([[80.0, 0, WIDTH / 2], [0, 80, HEIGHT / 2], [0, 0, 1]]).repeat(3, 1, 1)
    cameras = Cameras(look_at(eye, torch.zeros(3), torch.tensor([0.0, -1, 0])), K, HEIGHT, WIDTH)
    xyz = torch.rand(200, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    assert [sorted(n) for n in choose_neighbours(cameras, xyz, 4, 180.0)] == [[1, 2], [0, 2], [0, 1]]
    assert [sorted(n) for n in choose_neighbours(cameras, xyz, 4, 80.0)] == [[1], [0, 2], [1]]
    outer = cameras[[0, 2]]
    assert pairs_from_points(outer, xyz, 4, 80.0).neighbours == [[1], [0]]
