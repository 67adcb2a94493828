"""Records that know how to be cut, resized and moved: pixels, cameras and depth stay together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fvgen.checks import InputError
from fvgen.types import CameraPath, Cameras, Capture, Cover, PointCloud, SceneGeometry


def cameras(count: int = 3, height: int = 30, width: int = 40) -> Cameras:
    K = torch.tensor([[50.0, 0.5, 21.0], [0, 45.0, 14.0], [0, 0, 1]])
    c2w = torch.eye(4).repeat(count, 1, 1)
    c2w[:, 0, 3] = torch.arange(count)
    return Cameras(c2w, K.repeat(count, 1, 1), height, width)


def capture(count: int = 3, height: int = 30, width: int = 40) -> Capture:
    """Photos whose red is the column and green the row of a pixel's centre, in parts of 100 pixels."""
    rows, columns = (torch.arange(side) + 0.5 for side in (height, width))
    photo = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width), torch.zeros(height, width)])
    valid = (columns > 4).expand(count, height, -1)
    points = PointCloud(torch.zeros(5, 3), torch.zeros(5, 3), torch.ones(5))
    depths = torch.arange(count).float()[:, None, None] + 1 + (columns > width / 2).float().expand(count, height, -1)
    return Capture(photo.repeat(count, 1, 1, 1) / 100, cameras(count, height, width), valid, points, depths)


def seen_at(camera: Cameras, point: tuple[float, float, float]) -> tuple[float, float]:
    x, y, w = (camera.K[0] @ torch.tensor(point)).tolist()
    return x / w, y / w


def test_chosen_photos_keep_what_belongs_to_them():
    whole = capture()
    for index in ([2, 0], torch.tensor([2, 0]), slice(1, None), 1):
        part = whole[index]
        at = [index] if isinstance(index, int) else index
        assert torch.equal(part.photos, whole.photos[at]) and torch.equal(part.valid, whole.valid[at])
        assert torch.equal(part.cameras.c2w, whole.cameras.c2w[at]) and torch.equal(part.depths, whole.depths[at])
        assert part.sparse is whole.sparse and len(part) == len(part.photos)
    assert replace(whole, depths=None)[0].depths is None


@settings(deadline=None, max_examples=40)
@given(height=st.integers(2, 90), width=st.integers(2, 90), mode=st.sampled_from(["area", "bilinear"]))
def test_resizing_keeps_colour_and_place_together(height, width, mode):
    whole = capture()
    small = whole.resized(height, width, mode)
    assert small.photos.shape == (3, 3, height, width) and small.valid.shape == small.depths.shape == (3, height, width)
    assert (small.cameras.height, small.cameras.width) == (height, width)
    before, after = seen_at(whole.cameras, (0.1, -0.05, 1)), seen_at(small.cameras, (0.1, -0.05, 1))
    assert after[0] / width == pytest.approx(before[0] / 40, abs=1e-5)
    assert after[1] / height == pytest.approx(before[1] / 30, abs=1e-5)
    # the mean colour is that of the middle, wherever the pixels are
    torch.testing.assert_close(small.photos[0, :2].mean(dim=(1, 2)), torch.tensor([0.2, 0.15]), atol=0.012, rtol=0)
    assert set(small.depths[0].unique().tolist()) <= {1.0, 2.0}


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), target=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_covering_scales_least_and_crops_at_the_centre(height, width, target):
    cover = Cover.of((height, width), target)
    assert cover.height >= target[0] and cover.width >= target[1]
    assert cover.height == target[0] or cover.width == target[1]
    assert 0 <= cover.height - target[0] - 2 * cover.top <= 1 and 0 <= cover.width - target[1] - 2 * cover.left <= 1
    scale = max(target[0] / height, target[1] / width)
    assert abs(cover.height - scale * height) <= 0.5 + 1e-9 or cover.height == target[0]
    assert abs(cover.width - scale * width) <= 0.5 + 1e-9 or cover.width == target[1]
    part = cameras(1, height, width).covering(*target)
    assert (part.height, part.width) == target


def test_a_covering_capture_shows_the_middle():
    whole = capture()
    part = whole.covering(30, 20)  # crop only
    torch.testing.assert_close(part.photos, whole.photos[..., 10:30])
    assert torch.equal(part.valid, whole.valid[..., 10:30]) and torch.equal(part.depths, whole.depths[..., 10:30])
    assert part.sparse is whole.sparse
    torch.testing.assert_close(part.cameras.K[:, 0, 2], whole.cameras.K[:, 0, 2] - 10)
    half = whole.covering(15, 15)  # half the size, 20 columns of which the middle 15 stay
    x, y = seen_at(half.cameras, (0.02, 0.03, 1))
    wide = seen_at(whole.cameras, (0.02, 0.03, 1))
    assert (x, y) == (pytest.approx(wide[0] / 2 - 2), pytest.approx(wide[1] / 2))
    # a colour is the place that it came from
    torch.testing.assert_close(half.photos[0, 0, 7, 2:13] * 100, 2 * (torch.arange(2, 13) + 0.5 + 2), atol=1e-3, rtol=0)


def test_sizes_stay_within_the_longest_side():
    assert cameras().size_within(20) == (15, 20)
    assert cameras().size_within(400) == (30, 40)
    assert cameras(1, 1, 1000).size_within(10) == (1, 10)


def test_geometry_is_resized_with_its_photos():
    maps = torch.tensor([[[0.0, 1], [2, 3]]])
    points = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3), torch.ones(1))
    geometry = SceneGeometry(cameras(1, 2, 2), points, maps, maps / 4)
    large = geometry.resized(4, 4)
    assert torch.equal(large.depths[0, ::2, ::2], maps[0]) and torch.equal(large.depths[0, 1::2, 1::2], maps[0])
    assert torch.equal(large.confidences, large.depths / 4)
    assert large.points is points and large.cameras.K[0, 0, 0] == 100


def test_a_path_in_parts_and_what_is_drawn():
    ends = torch.tensor([[0, 1]]).repeat(5, 1)
    path = CameraPath(cameras(5), ends, torch.linspace(0, 1, 5), torch.tensor([0, -1, -1, -1, 1]))
    assert path.drawn.positions[:, 0].tolist() == [1, 2, 3]
    part = path.part(torch.tensor([4, 1]))
    assert part.photo.tolist() == [1, -1] and part.position.tolist() == [1, 0.25] and len(part) == 2
    assert part.drawn.positions[:, 0].tolist() == [1]
    assert len(path.part(torch.tensor([0, 4])).drawn) == 0


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="image size must be positive, got 5x0"):
        cameras().resized(0, 5)
    with pytest.raises(InputError, match="the crop must lie within the 40x30 image, got 40x30 pixels from column 1"):
        cameras().cropped(0, 1, 30, 40)
