"""The room around a scene: planes on which the photos agree are found, and none where they do not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from fvgen.geometry.cameras import unproject
from fvgen.geometry.room import MOST_PLANES, find_room, room_inverse_depth
from fvgen.types import Cameras

SIZE = 20, 28
FAR = 0.02


@pytest.fixture(scope="module")
def cameras():
    """Four cameras side by side that look along z, 1.5 above the plane y = 1.5."""
    c2w = torch.eye(4).repeat(4, 1, 1)
    c2w[:, 0, 3] = torch.linspace(-1, 1, 4)
    K = torch.tensor([[24.0, 0, 14], [0, 24, 10], [0, 0, 1]]).repeat(4, 1, 1)
    return Cameras(c2w, K, *SIZE)


@pytest.fixture(scope="module")
def xyz():
    """Points of a scene 5 units away."""
    return (torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5) * 2 + torch.tensor([0, 0, 5.0])


def inverse_depth(plane: torch.Tensor, cameras: Cameras, photo: int) -> torch.Tensor:
    """[h * w] of a plane, by intersecting each pixel's ray."""
    far = unproject(torch.ones(1, *SIZE), cameras[photo])[0].view(-1, 3)
    origin = cameras.positions[photo]
    return ((far - origin) @ plane[:3]) / (plane[3] - plane[:3] @ origin)


def find(planes, cameras, xyz, holes=None):
    """The room that is found where the photos agree on the nearest of ``planes`` [K, 4], and on what lies behind."""

    def cost(photo, cells, inverse):
        truth = [inverse_depth(plane, cameras, photo)[cells] for plane in planes]
        truth = torch.stack([*truth, torch.full_like(cells, FAR, dtype=torch.float32)]).amax(dim=0)
        return ((inverse / truth[:, None]).log().abs() / 0.2).clamp_max(1)

    far = torch.full((len(cameras), *SIZE), FAR)
    return find_room(far, cameras, xyz, torch.ones(4, *SIZE, dtype=torch.bool) if holes is None else holes, cost), far


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.3, 3))
def test_one_plane_is_found_whatever_its_tilt_and_distance(cameras, xyz, tilt, roll, distance):
    normal = normalize(torch.tensor([roll, -1.0, tilt]), dim=0)
    lowest = torch.cat([xyz, cameras.positions]).matmul(normal).min()
    plane = torch.cat([normal, (lowest - distance)[None]])
    found, far = find([plane], cameras, xyz)
    shown = room_inverse_depth(found, far, cameras)
    for photo in range(len(cameras)):
        truth = inverse_depth(plane, cameras, photo).clamp_min(FAR)
        error = (shown[photo].flatten() / truth).log().abs()
        assert error.median() < 0.05 and error.mean() < 0.1


def test_a_floor_and_a_wall_are_found(cameras, xyz):
    floor, wall = torch.tensor([0.0, -1, 0, -1.5]), torch.tensor([0.0, 0, -1, -9])
    found, far = find([floor, wall], cameras, xyz)
    assert 2 <= len(found) <= MOST_PLANES
    torch.testing.assert_close(found[:, :3].norm(dim=1), torch.ones(len(found)))
    truth = torch.maximum(inverse_depth(floor, cameras, 0), inverse_depth(wall, cameras, 0)).clamp_min(FAR)
    assert (room_inverse_depth(found, far, cameras)[0].flatten() / truth).log().abs().mean() < 0.1


def test_cameras_and_nearly_all_points_lie_inside(cameras, xyz):
    found, _ = find([torch.tensor([0.0, -1, 0, -0.2])], cameras, xyz)  # it would cut the points
    assert (cameras.positions @ found[:, :3].T > found[:, 3]).all()
    assert ((xyz @ found[:, :3].T < found[:, 3] - 1e-4).float().mean(dim=0) <= 0.05).all()


def test_no_plane_stands_where_the_photos_do_not_agree_on_one(cameras, xyz):
    found, far = find([], cameras, xyz)
    assert not len(found)
    torch.testing.assert_close(room_inverse_depth(found, far, cameras), far)


def test_nothing_empty_needs_no_room(cameras, xyz):
    assert not len(find([torch.tensor([0.0, -1, 0, -1.5])], cameras, xyz, torch.zeros(4, *SIZE, dtype=torch.bool))[0])
