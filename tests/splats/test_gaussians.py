"""Splats as data: a turned splat looks from turned cameras as it did before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plyfile import PlyData
from random_splats import cameras_around, random_splat
from scipy.spatial.transform import Rotation

from fvgen import Cameras, Gaussians, InputError, read_splat, resolve, write_splat


def picture(splat: Gaussians, cameras: Cameras) -> torch.Tensor:
    """[C, H, W, 3] by the oracle in float64."""
    splat = splat.to(torch.float64)
    parts = (splat.means, splat.quats, splat.scales.exp(), splat.opacities.sigmoid(), splat.sh)
    return resolve("torch", "cpu").rasterize(*parts, cameras, splat.degree, torch.full((3,), 0.3).double()).rgb


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 9, 16]))
def test_a_turned_splat_looks_the_same_from_turned_cameras(seed, terms):
    splat, before = random_splat(terms=terms, seed=seed).to(torch.float64), cameras_around()
    R = torch.from_numpy(Rotation.random(random_state=seed).as_matrix())
    around = torch.eye(4).double()
    around[:3, :3] = R
    after = Cameras(around @ before.c2w, before.K, before.height, before.width)
    expected, found = picture(splat, before), picture(splat.turned(R), after)
    assert float(expected.std()) > 0.02
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=0)


def test_what_is_no_rotation_is_refused():
    mirror = torch.diag(torch.tensor([1.0, 1, -1]))
    with pytest.raises(InputError, match="rotation must be a 3x3 rotation matrix"):
        random_splat().turned(mirror)


@pytest.mark.parametrize("terms", [1, 4, 16])
def test_a_file_holds_every_number(tmp_path, terms):
    splat = random_splat(terms=terms)
    write_splat(tmp_path / "splat.ply", splat)
    back = read_splat(tmp_path / "splat.ply")
    for name in ("means", "quats", "scales", "opacities", "sh"):
        assert torch.equal(getattr(back, name), getattr(splat, name)), name
    rows = PlyData.read(str(tmp_path / "splat.ply"))["vertex"].data
    if terms == 16:  # the layout of 3DGS: 15 of red first
        assert np.array_equal(rows["f_rest_1"], splat.sh[:, 2, 0].numpy())
        assert np.array_equal(rows["f_rest_15"], splat.sh[:, 1, 1].numpy())


def test_numbers_that_are_not_finite_are_found_and_never_written(tmp_path):
    splat = random_splat()
    splat.means[3, 1], splat.quats[5] = float("nan"), 0
    assert (~splat.finite()).nonzero()[:, 0].tolist() == [3, 5]
    with pytest.raises(InputError, match="2 Gaussians with others"):
        write_splat(tmp_path / "splat.ply", splat)
    assert not (tmp_path / "splat.ply").exists()
    write_splat(tmp_path / "splat.ply", splat[splat.finite()])
    assert len(read_splat(tmp_path / "splat.ply")) == 38


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.ply").write_text("hello")
    with pytest.raises(InputError, match="be a complete PLY file"):
        read_splat(tmp_path / "text.ply")
    with pytest.raises(InputError, match="no such file"):
        read_splat(tmp_path / "nothing.ply")
