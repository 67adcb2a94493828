import math

import pytest
import torch

from fvgen.geometry.cameras import look_at, pixel_rays
from fvgen.geometry.matching_cost import grey_images
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.geometry.slanted_planes import SLANTS, PlaneFamily, TorchMatcher, matching_cost
from fvgen.geometry.slanted_planes_numba import CompiledMatcher
from fvgen.types import Cameras, Capture

HEIGHT, WIDTH = 60, 80
HYPOTHESES = torch.linspace(0.12, 0.4, 64)


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


def cost_at(cost: torch.Tensor, inverse_depth: torch.Tensor) -> float:
    """Median cost [H, W, D] at the hypothesis nearest to ``inverse_depth`` [H, W], away from the border."""
    index = (HYPOTHESES[None, None] - inverse_depth[..., None]).abs().argmin(dim=2, keepdim=True)
    return float(cost.gather(2, index)[10:-10, 10:-30, 0].median())


@pytest.mark.parametrize("slant", SLANTS)
def test_a_wall_matches_best_on_planes_of_its_own_orientation(slant):
    greys, cameras, inverse_depth = wall(slant)
    matcher = TorchMatcher(greys, cameras, 0, [1], 4, 1, -0.2)
    costs = []
    for tried in SLANTS:
        cost = torch.full((HEIGHT, WIDTH, len(HYPOTHESES)), math.inf)
        matcher.lower(cost, PlaneFamily.covering(cameras[0], tried, HYPOTHESES), HYPOTHESES, 0.0)
        costs.append(cost_at(cost, inverse_depth))
    assert SLANTS[min(range(len(SLANTS)), key=costs.__getitem__)] == slant
    assert min(costs) < 0.3  # sampling blurs what is seen at a flat angle
    of_all = matching_cost(greys, cameras, 0, [1], HYPOTHESES, SLANTS, 4, 1, -0.2)
    assert cost_at(of_all, inverse_depth) < min(costs) + 0.021  # slanted planes cost a little


@pytest.mark.parametrize("slant", SLANTS)
def test_a_family_reaches_every_hypothesis(slant):
    _, cameras, _ = wall((0.0, 0.0))
    family = PlaneFamily.covering(cameras[0], slant, HYPOTHESES)
    ends = family.slope[..., None] * family.offsets[[0, -1]]
    assert bool((ends[..., 0] <= HYPOTHESES[0] * 1.001).all()) and bool((ends[..., 1] >= HYPOTHESES[-1] * 0.999).all())
    steps = family.offsets.diff()
    assert torch.allclose(steps, (HYPOTHESES[1] - HYPOTHESES[0]).expand_as(steps), rtol=1e-4)


@pytest.mark.parametrize(("neighbours", "best"), [([0], 1), ([0, 2], 2)])
@pytest.mark.parametrize("slant", [SLANTS[0], SLANTS[1], SLANTS[4]])
def test_compiled_loops_equal_torch(exact_capture, neighbours, best, slant):
    valid = exact_capture.valid.clone()
    valid[0, 20:24, 30:40] = False  # missing pixels, in neighbour and reference
    valid[1, 50:, :5] = False
    greys, cameras = grey_images(exact_capture.photos, valid), exact_capture.cameras
    family = PlaneFamily.covering(cameras[1], slant, HYPOTHESES)
    costs = []
    for matcher in (TorchMatcher, CompiledMatcher):
        cost = torch.full((*greys.shape[1:], len(HYPOTHESES)), 1.3)
        matcher(greys, cameras, 1, neighbours, 4, best, -0.2).lower(cost, family, HYPOTHESES, 0.02)
        costs.append(cost)
    difference = (costs[0] - costs[1]).abs()
    assert float((costs[0] < 1).float().mean()) > 0.2
    # where a sample falls onto the last row of pixels, rounding decides whether its windows exist
    assert float((difference > 2e-3).float().mean()) < 2e-3


def test_two_photos_far_apart_find_a_slanted_wall():
    greys, cameras, inverse_depth = wall((0.0, 1.0))
    capture = Capture(greys[:, None].repeat(1, 3, 1, 1), cameras, torch.ones_like(greys, dtype=torch.bool))
    shares = []
    for neighbours in (0, 2):
        geometry = PlaneSweep(hypotheses=64, slanted_neighbours=neighbours).reconstruct(capture)
        right = (geometry.depths[0] * inverse_depth - 1).abs() < 0.02
        shares.append(float(right.float().mean()))
    assert shares[1] > 0.3 and shares[1] > 1.5 * shares[0]


@pytest.mark.gpu
def test_a_gpu_finds_the_same_costs(exact_capture):
    from fvgen.devices import default_device

    device = default_device()
    greys, cameras = grey_images(exact_capture.photos, exact_capture.valid), exact_capture.cameras
    here = matching_cost(greys, cameras, 1, [0, 2], HYPOTHESES, SLANTS, 4, 1, -0.2)
    there = matching_cost(
        greys.to(device), cameras.to(device), 1, [0, 2], HYPOTHESES.to(device), SLANTS, 4, 1, -0.2
    ).cpu()
    assert float(((here - there).abs() > 2e-3).float().mean()) < 2e-3
