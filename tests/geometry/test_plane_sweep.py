import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.geometry.cameras import look_at, project
from fvgen.geometry.correlation import Correlation, PlaneWarp, best_mean, grey_images, window_mean
from fvgen.geometry.depth_filters import (
    agreeing_views,
    seen_through,
    with_gaps_closed,
    without_flying_pixels,
    without_speckles,
)
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.geometry.points import depth_to_points, voxel_thin
from fvgen.geometry.sgm import semi_global_cost
from fvgen.types import Cameras, Capture

SWEEP = PlaneSweep(hypotheses=64)


def slow_semi_global(cost: np.ndarray, guide: np.ndarray, small: float, jump: float, contrast: float) -> np.ndarray:
    """Hirschmüller's equations 13 and 14, pixel by pixel."""
    height, width, hypotheses = cost.shape
    total = np.zeros_like(cost)
    for dy, dx in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
        path = np.zeros_like(cost)
        for y in range(height)[:: -1 if dy < 0 else 1]:
            for x in range(width)[:: -1 if dx < 0 else 1]:
                path[y, x] = cost[y, x]
                if not (0 <= y - dy < height and 0 <= x - dx < width):
                    continue
                before = path[y - dy, x - dx]
                leap = max(jump / (1 + abs(guide[y, x] - guide[y - dy, x - dx]) / contrast), 1.5 * small)
                for d in range(hypotheses):
                    ways = [before[d], before.min() + leap]
                    ways += [before[e] + small for e in (d - 1, d + 1) if 0 <= e < hypotheses]
                    path[y, x, d] += min(ways) - before.min()
        total += path
    return total


def test_semi_global_cost_equals_the_equations():
    rng = np.random.default_rng(0)
    cost, guide = rng.random((7, 9, 6)), rng.random((7, 9)) * 0.2
    fast = semi_global_cost(torch.from_numpy(cost), torch.from_numpy(guide), 0.1, 0.7, 0.05)
    np.testing.assert_allclose(fast.numpy(), slow_semi_global(cost, guide, 0.1, 0.7, 0.05), rtol=1e-12)


@pytest.mark.parametrize("shape", [(7, 9, 11), (1, 6, 8), (6, 1, 16)])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_semi_global_cost_equals_the_equations(shape, threads):
    rng = np.random.default_rng(1)
    cost, guide = rng.random(shape), rng.random(shape[:2])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = semi_global_cost(torch.from_numpy(cost).float(), torch.from_numpy(guide).float(), 0.1, 0.7, 0.05)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(fast.numpy(), slow_semi_global(cost, guide, 0.1, 0.7, 0.05), rtol=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 4])
def test_window_mean_equals_a_mean_over_each_window(radius):
    image = torch.rand(2, 11, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = np.pad(image.numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2, axis=(1, 2))
    np.testing.assert_allclose(window_mean(image, radius).numpy(), windows.mean((3, 4)), rtol=1e-12)


def test_correlation_equals_numpy_and_ignores_gain_and_offset():
    generator = torch.Generator().manual_seed(0)
    grey = torch.rand(12, 12, generator=generator)
    other = torch.rand(12, 12, generator=generator)
    found = Correlation(grey, 3)(torch.stack([other, 0.6 * grey + 0.2]))
    patch = (slice(2, 9), slice(3, 10))
    oracle = np.corrcoef(grey[patch].numpy().ravel(), other[patch].numpy().ravel())[0, 1]
    assert float(found[0, 5, 6]) == pytest.approx(oracle, abs=2e-3)  # the variance floor pulls towards 0
    assert bool((found[1] > 0.99).all())


def test_missing_pixels_spoil_exactly_the_windows_that_hold_them():
    grey = torch.rand(15, 15, generator=torch.Generator().manual_seed(0))
    missing = grey.clone()
    missing[7, 7] = math.nan
    spoilt = Correlation(grey, 2)(missing[None])[0].isnan()
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[5:10, 5:10] = True
    assert torch.equal(spoilt, expected)


def test_best_mean_passes_over_an_occluded_neighbour():
    scores = torch.tensor([0.9, math.nan, -0.5, 0.7])[:, None, None]
    assert float(best_mean(scores, 2, 0.0)) == pytest.approx(0.8)
    assert float(best_mean(scores, 1, 0.0)) == pytest.approx(0.9)
    assert float(best_mean(scores[1:3], 2, 0.0)) == pytest.approx(-0.25)


def test_warp_at_the_true_depth_brings_the_photos_together(exact_capture):
    greys = grey_images(exact_capture.photos, exact_capture.valid)
    warp = PlaneWarp(greys, exact_capture.cameras, 1, [0, 2])
    right = warp(1 / exact_capture.depths[1])
    wrong = warp(torch.tensor(1 / 5.2))
    seen = ~right.isnan()
    assert 0.7 < float(seen.float().mean()) < 1
    error = (right - greys[1]).abs().nan_to_num(0).sum() / seen.sum()
    assert float(error) < 0.02  # bilinear sampling of fine texture, and the strip that the board hides
    assert float((wrong - greys[1]).abs().nanmean()) > 3 * float(error)


def quality(geometry, exact: torch.Tensor) -> tuple[float, float, float]:
    """Part of pixels with depth, and of these the median relative error and the part that is off by over 3 %."""
    known = geometry.depths > 0
    error = ((geometry.depths - exact).abs() / exact)[known]
    return float(known.float().mean()), float(error.median()), float((error > 0.03).float().mean())


def assert_consistent(geometry, capture):
    """What every `SceneGeometry` promises."""
    assert torch.equal(geometry.confidences > 0, geometry.depths > 0)
    assert float(geometry.confidences.max()) <= 1 and float(geometry.confidences.min()) >= 0
    again = depth_to_points(capture.photos, capture.cameras, geometry.depths, geometry.confidences)
    assert torch.equal(again.xyz, geometry.points.xyz)


@pytest.fixture(scope="module")
def sparse(exact_capture):
    """A thin cloud of true points, as structure from motion gives."""
    cloud = depth_to_points(
        exact_capture.photos, exact_capture.cameras, exact_capture.depths, torch.ones_like(exact_capture.depths)
    )
    return voxel_thin(cloud, 0.6)


@pytest.mark.parametrize("with_sparse", [True, False])
def test_depth_of_a_known_scene(exact_capture, sparse, with_sparse):
    seen = []
    capture = replace(exact_capture, depths=None, sparse=sparse if with_sparse else None)
    geometry = SWEEP.reconstruct(capture, lambda done, total, what: seen.append((done, total, what)))
    part, median, wrong = quality(geometry, exact_capture.depths)
    assert part > 0.6
    assert median < 0.005
    assert wrong < 0.03
    assert_consistent(geometry, capture)
    assert seen[-1][0] == seen[-1][1] and all(0 <= done <= total for done, total, _ in seen)


def test_two_photos_suffice(exact_capture, sparse):
    capture = replace(
        exact_capture,
        photos=exact_capture.photos[:2],
        cameras=exact_capture.cameras[:2],
        valid=exact_capture.valid[:2],
        depths=None,
        sparse=sparse,
    )
    part, median, wrong = quality(SWEEP.reconstruct(capture), exact_capture.depths[:2])
    assert part > 0.5 and median < 0.01 and wrong < 0.05


def test_the_scale_of_the_scene_does_not_matter(exact_capture):
    c2w = exact_capture.cameras.c2w.clone()
    c2w[:, :3, 3] *= 1000
    capture = replace(exact_capture, depths=None)
    large = replace(capture, cameras=replace(capture.cameras, c2w=c2w))
    one, other = SWEEP.reconstruct(capture), SWEEP.reconstruct(large)
    both = (one.depths > 0) & (other.depths > 0)
    assert float(both.float().mean()) > 0.95 * float((one.depths > 0).float().mean())
    ratio = other.depths[both] / one.depths[both]
    assert float((ratio - 1000).abs().median()) < 1


def test_masked_pixels_get_no_depth(exact_capture, sparse):
    valid = exact_capture.valid.clone()
    valid[:, :, :30] = False
    geometry = SWEEP.reconstruct(replace(exact_capture, valid=valid, depths=None, sparse=sparse))
    assert not bool((geometry.depths > 0)[~valid].any())
    assert float((geometry.depths > 0)[valid].float().mean()) > 0.4


def test_photos_that_share_no_view_give_an_empty_cloud(exact_capture):
    up = torch.tensor([0.0, -1.0, 0.0])
    eye = torch.tensor([[0.0, 0, 0], [50.0, 0, 0]])
    away = torch.tensor([[-5.0, 0, 5], [55.0, 0, 5]])
    cameras = Cameras(look_at(eye, away, up), exact_capture.cameras.K[:2], 72, 96)
    capture = replace(
        exact_capture, cameras=cameras, photos=exact_capture.photos[:2], valid=exact_capture.valid[:2], depths=None
    )
    geometry = SWEEP.reconstruct(capture)
    assert len(geometry.points) == 0
    assert geometry.depths.shape == (2, 72, 96) and not bool(geometry.depths.any())


def test_unrelated_photos_give_almost_nothing(exact_capture):
    """Cameras that should overlap, but photos of noise: what agrees by chance, of 60 % and more in a real scene."""
    noise = torch.rand(3, 3, 72, 96, generator=torch.Generator().manual_seed(0))
    photos = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)
    geometry = SWEEP.reconstruct(replace(exact_capture, photos=photos, depths=None))
    assert float((geometry.depths > 0).float().mean()) < 0.1


@pytest.mark.parametrize("size", [(1, 1), (4, 60), (60, 2)])
def test_photos_smaller_than_the_window_give_nothing(exact_capture, size):
    capture = exact_capture
    small = Capture(
        capture.photos[..., : size[0], : size[1]],
        capture.cameras.cropped(0, 0, *size),
        capture.valid[..., : size[0], : size[1]],
    )
    assert len(PlaneSweep().reconstruct(small).points) == 0


def test_flat_photos_give_nothing(exact_capture, sparse):
    photos = torch.full_like(exact_capture.photos, 0.5)
    geometry = SWEEP.reconstruct(replace(exact_capture, photos=photos, depths=None, sparse=sparse))
    assert len(geometry.points) == 0


def test_wrong_cameras_are_refused_before_any_work(exact_capture):
    c2w = exact_capture.cameras.c2w.clone()
    c2w[1, :3, 0] *= -1
    capture = replace(exact_capture, cameras=replace(exact_capture.cameras, c2w=c2w))
    with pytest.raises(InputError, match="camera 1 must not be mirrored"):
        SWEEP.reconstruct(capture, lambda *_: pytest.fail("work began"))


def test_true_depth_is_confirmed_wherever_another_view_sees_it(exact_capture):
    depths, cameras = exact_capture.depths, exact_capture.cameras
    count, _ = agreeing_views(depths, cameras, 0.5, 0.01)
    assert float((count >= 1).float().mean()) > 0.9
    denied = seen_through(depths, cameras, 0.05)
    assert float((denied > 0).float().mean()) < 0.01
    wrong = depths.clone()
    wrong[0] *= 0.8
    assert float((agreeing_views(wrong, cameras, 1.0, 0.01)[0][0] > 0).float().mean()) < 0.02
    cloud = depth_to_points(exact_capture.photos, cameras, wrong, wrong)
    uv, _ = project(cloud.xyz[: wrong[0].numel()], cameras[1])
    inside = ((uv[0] >= 0) & (uv[0] < torch.tensor([96, 72]))).all(dim=1).reshape(72, 96)
    through = (seen_through(wrong, cameras, 0.05)[0] > 0)[inside]
    assert float(through.float().mean()) > 0.95, "all but what moved behind the board"


def test_the_mean_of_agreeing_views_is_less_noisy(exact_capture):
    exact = exact_capture.depths
    noise = torch.randn(exact.shape, generator=torch.Generator().manual_seed(0))
    count, mean = agreeing_views(exact * (1 + 0.003 * noise), exact_capture.cameras, 5.0, 0.02)
    error = ((mean - exact) / exact)[count == 2]
    assert len(error) > 1000
    assert float(error.std()) < 0.0022  # 0.003 / sqrt(3), and the slope of the wall within a pixel


def test_unknown_depth_is_neither_confirmed_nor_denied(exact_capture):
    none = torch.zeros_like(exact_capture.depths)
    count, mean = agreeing_views(none, exact_capture.cameras, 1.0, 0.01)
    assert not bool(count.any()) and not bool(mean.any())
    assert not bool(seen_through(none, exact_capture.cameras, 0.01).any())


def test_speckles_go_and_patches_stay():
    depth = torch.zeros(1, 40, 40)
    depth[0, 5:25, 5:25] = torch.linspace(2.0, 2.3, 20)
    depth[0, 30:33, 30:33] = 5.0
    depth[0, 10:12, 10:12] = 9.0
    expected = depth.clone()
    expected[0, 30:33, 30:33] = 0
    expected[0, 10:12, 10:12] = 0
    assert torch.equal(without_speckles(depth, 20, 0.02), expected)
    assert not bool(without_speckles(torch.zeros(1, 8, 8), 20, 0.02).any())


def test_flying_pixels_go_and_both_surfaces_stay():
    depth = torch.full((1, 10, 12), 2.0)
    depth[:, :, 6:] = 4.0
    depth[:, :, 5] = 3.0
    expected = depth.clone()
    expected[:, :, 5] = 0
    assert torch.equal(without_flying_pixels(depth, 0.05), expected)


def test_gaps_close_within_a_plane_and_nowhere_else():
    inverse = 0.2 + 0.002 * torch.arange(12.0) + 0.001 * torch.arange(10.0)[:, None]
    plane = (1 / inverse)[None]
    holed = plane.clone()
    holed[:, 2::4, 1:-1:2] = 0
    assert torch.allclose(with_gaps_closed(holed, 0.03), plane, rtol=1e-5)
    step = torch.full((1, 9, 9), 2.0)
    step[:, :, 5:] = 4.0
    step[:, :, 4] = 0
    assert torch.equal(with_gaps_closed(step, 0.03), step)
    half = torch.zeros(1, 9, 9)
    half[:, :, :4] = 2.0
    assert torch.equal(with_gaps_closed(half, 0.03, passes=3), half)
