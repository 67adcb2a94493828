"""A splat turned upright, cropped, and where its page opens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_splats import cameras_around, random_splat

from fvgen import Cameras, InputError
from fvgen.geometry.cameras import look_at
from fvgen.splats.upright import drawable, turned_cameras, upright_rotation, vertical_of, within
from fvgen.splats.web import convert_splat, page_settings

number = st.floats(-1, 1, allow_nan=False)


@given(st.tuples(number, number, number).filter(lambda v: np.linalg.norm(v) > 1e-3))
def test_up_becomes_minus_y_by_the_shortest_rotation(up):
    direction = torch.tensor(up, dtype=torch.float64)
    direction = direction / direction.norm()
    R = upright_rotation(direction)
    torch.testing.assert_close(R @ R.T, torch.eye(3).double(), atol=1e-9, rtol=0)
    assert float(torch.linalg.det(R)) > 0
    torch.testing.assert_close(R @ direction, torch.tensor([0.0, -1, 0]).double(), atol=1e-6, rtol=0)
    angle = torch.arccos(((R.trace() - 1) / 2).clamp(-1, 1))
    between = torch.arccos((-direction[1]).clamp(-1, 1))
    assert float(angle) == pytest.approx(float(between), abs=1e-3)  # arccos has few digits near half a round


def test_down_is_turned_half_round():
    assert torch.equal(upright_rotation(torch.tensor([0.0, 1, 0])), torch.diag(torch.tensor([1.0, -1, -1])).double())
    with pytest.raises(InputError, match="--up must be a direction"):
        upright_rotation(torch.zeros(3))


@given(st.floats(10, 50), st.floats(60, 120))
def test_the_vertical_is_found_in_level_photos_that_look_down(height, apart):
    angles = torch.linspace(0, apart, 4).double().deg2rad()
    places = torch.stack([angles.cos(), angles.sin(), torch.full((4,), height).double().deg2rad().tan()], dim=1)
    up = torch.tensor([0.0, 0, 1]).double()
    c2w = look_at(places, torch.zeros(4, 3).double(), up)
    vertical = vertical_of(Cameras(c2w, torch.eye(3).double().repeat(4, 1, 1), 24, 32))
    mean = -c2w[:, :3, 1].mean(dim=0)
    assert float(vertical @ up) > float(mean / mean.norm() @ up)
    assert float(vertical @ up) > np.cos(np.deg2rad(3))  # nearer than hands hold level
    assert float(vertical_of(Cameras(c2w[:1], torch.eye(3).double()[None], 24, 32)) @ -c2w[0, :3, 1]) > 1 - 1e-9


def test_broken_and_invisible_gaussians_are_not_drawn():
    splat = random_splat()
    splat.opacities[2], splat.means[4, 0] = -6.0, float("inf")
    assert (~drawable(splat)).nonzero()[:, 0].tolist() == [2, 4]


def test_a_crop_is_a_ball_around_what_the_photos_look_at():
    splat = random_splat()
    splat.means[:] = torch.linspace(-30, 30, len(splat))[:, None] * torch.tensor([1.0, 0, 0])
    kept = within(splat, cameras_around(), 2.0)  # both look at the origin from a distance of 3
    assert kept.tolist() == [abs(x) <= 6 for x in splat.means[:, 0].tolist()]


def test_a_page_opens_at_the_camera_as_playcanvas_loads_it():
    camera = turned_cameras(cameras_around()[0], torch.eye(3).double())
    first = page_settings(camera)["cameras"][0]["initial"]
    assert first["position"] == pytest.approx([0, 0, -3])  # half round about z: x and y change their signs
    assert first["target"] == pytest.approx([0, 0, -2])
    assert first["fov"] == pytest.approx(2 * np.degrees(np.arctan(16 / 30)))
    portrait = Cameras(camera.c2w, camera.K, 64, 32)
    assert page_settings(portrait)["cameras"][0]["initial"]["fov"] == pytest.approx(2 * np.degrees(np.arctan(32 / 30)))


def test_without_its_program_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"Run: npx @playcanvas/splat-transform a\.ply --filter-harmonics 0 b\.sog"):
        convert_splat(tmp_path.__class__("a.ply"), tmp_path.__class__("b.sog"))
    assert not (tmp_path / "b.sog").exists()
