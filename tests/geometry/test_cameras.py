import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fvgen.checks import InputError
from fvgen.geometry.cameras import check_cameras, look_at, project, unproject
from fvgen.types import Cameras


@st.composite
def cameras_of(draw, count: int = 2) -> Cameras:
    """Random cameras in float64: any rotation, any principal point within the image, skew included."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    height, width = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.random(count, random_state=rng).as_matrix()
    c2w[:, :3, 3] = rng.normal(size=(count, 3)) * 3
    K = np.tile(np.eye(3), (count, 1, 1))
    K[:, 0, 0], K[:, 1, 1] = rng.uniform(3, 30, count), rng.uniform(3, 30, count)
    K[:, 0, 1] = rng.normal(size=count)
    K[:, 0, 2], K[:, 1, 2] = rng.uniform(0, width, count), rng.uniform(0, height, count)
    return Cameras(torch.from_numpy(c2w), torch.from_numpy(K), height, width)


def pixel_centres(cameras: Cameras) -> torch.Tensor:
    """[H W, 2] float64."""
    y, x = np.mgrid[: cameras.height, : cameras.width] + 0.5
    return torch.from_numpy(np.stack([x.ravel(), y.ravel()], axis=1))


@given(cameras_of(), st.floats(0.1, 100))
@settings(max_examples=50, deadline=None)
def test_project_undoes_unproject_at_pixel_centres(cameras, depth):
    xyz = unproject(torch.full((len(cameras), cameras.height, cameras.width), depth, dtype=torch.float64), cameras)
    for i in range(len(cameras)):
        uv, z = project(xyz[i].reshape(-1, 3), cameras[i])
        assert torch.allclose(uv[0], pixel_centres(cameras), atol=1e-9)
        assert torch.allclose(z, torch.full_like(z, depth), rtol=1e-9)


@given(cameras_of(1))
@settings(max_examples=25, deadline=None)
def test_project_equals_the_projection_matrix(cameras):
    xyz = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    matrix = cameras.K[0].numpy() @ np.linalg.inv(cameras.c2w[0].numpy())[:3]
    homogeneous = np.concatenate([xyz.numpy(), np.ones((20, 1))], axis=1) @ matrix.T
    uv, z = project(xyz, cameras)
    np.testing.assert_allclose(z[0].numpy(), homogeneous[:, 2], atol=1e-9)
    front = homogeneous[:, 2] > 1e-3
    np.testing.assert_allclose(uv[0].numpy()[front], (homogeneous[:, :2] / homogeneous[:, 2:])[front], rtol=1e-7)
    assert bool(torch.isfinite(uv).all())


@given(cameras_of(), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_resizing_scales_picture_positions(cameras, height, width):
    xyz = cameras.positions + cameras.c2w[:, :3, 2] * 5
    before, _ = project(xyz, cameras)
    after, _ = project(xyz, cameras.resized(height, width))
    scale = torch.tensor([width / cameras.width, height / cameras.height], dtype=torch.float64)
    assert torch.allclose(after, before * scale, rtol=1e-9, atol=1e-6)


def test_cropping_shifts_picture_positions(exact_capture):
    cameras, part = exact_capture.cameras, exact_capture.cameras.cropped(10, 20, 30, 40)
    xyz = torch.tensor([[0.1, -0.2, 5.0]])
    assert torch.allclose(project(xyz, part)[0], project(xyz, cameras)[0] - torch.tensor([20.0, 10.0]), atol=1e-4)
    assert (part.height, part.width) == (30, 40)
    with pytest.raises(InputError, match="lie within the 96x72 image"):
        cameras.cropped(50, 0, 30, 40)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_look_at_sees_its_target_in_the_middle_and_up_above(seed):
    generator = torch.Generator().manual_seed(seed)
    eye, target, up = (torch.randn(3, dtype=torch.float64, generator=generator) for _ in range(3))
    c2w = look_at(eye, target, up)
    rotation = c2w[:3, :3]
    assert torch.allclose(rotation.T @ rotation, torch.eye(3, dtype=torch.float64), atol=1e-9)
    assert torch.linalg.det(rotation) == pytest.approx(1)
    camera = Cameras(c2w[None], torch.eye(3, dtype=torch.float64)[None], 2, 2)
    uv, z = project(torch.stack([target, target + 1e-4 * up]), camera)
    assert torch.allclose(uv[0, 0], torch.zeros(2, dtype=torch.float64), atol=1e-9)
    assert z[0, 0] == pytest.approx(float((target - eye).norm()))
    assert uv[0, 1, 1] < 0, "up in the world is towards smaller rows"
    assert abs(float(uv[0, 1, 0])) < 1e-9


def test_look_at_refuses_what_has_no_answer():
    x, zero = torch.tensor([1.0, 0, 0]), torch.zeros(3)
    with pytest.raises(InputError, match="differ from target"):
        look_at(x, x, torch.tensor([0.0, 1, 0]))
    with pytest.raises(InputError, match="parallel to the view"):
        look_at(zero, x, x)
    with pytest.raises(InputError, match="not be zero"):
        look_at(zero, x, zero)


def broken(cameras: Cameras, what: str) -> Cameras:
    """The cameras with camera 1 made wrong."""
    c2w, K = cameras.c2w.clone(), cameras.K.clone()
    if what == "nan":
        c2w[1, 0, 3] = math.nan
    elif what == "far away":
        c2w[1, 0, 3] = 1e20
    elif what == "mirrored":
        c2w[1, :3, 0] *= -1
    elif what == "scaled":
        c2w[1, :3, :3] *= 1.5
    elif what == "bottom row":
        c2w[1, 3, 0] = 0.2
    elif what == "zero focal":
        K[1, 0, 0] = 0
    elif what == "negative focal":
        K[1, 1, 1] = -5
    elif what == "infinite K":
        K[1, 0, 2] = math.inf
    elif what == "transposed K":
        K[1] = K[1].T.clone()
    return replace(cameras, c2w=c2w, K=K)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "be finite"),
        ("far away", "lie within 1e\\+09 units of the origin"),
        ("mirrored", "not be mirrored"),
        ("scaled", "without scale or shear"),
        ("bottom row", "end in the row 0 0 0 1"),
        ("zero focal", "focal length of camera 1 must be positive"),
        ("negative focal", "focal length of camera 1 must be positive"),
        ("infinite K", "be finite"),
        ("transposed K", "be fx s cx"),
    ],
)
def test_check_cameras_names_the_wrong_camera(exact_capture, what, message):
    check_cameras(exact_capture.cameras)
    with pytest.raises(InputError, match=message) as error:
        check_cameras(broken(exact_capture.cameras, what))
    assert "camera 1" in str(error.value)


def test_check_cameras_refuses_one_photo_and_equal_poses(exact_capture):
    cameras = exact_capture.cameras
    with pytest.raises(InputError, match="at least 2, got 1"):
        check_cameras(cameras[0])
    with pytest.raises(InputError, match="the same pose for camera 0 and camera 2"):
        check_cameras(cameras[[0, 1, 0]])
    with pytest.raises(InputError, match="the same pose for camera 0 and camera 1"):
        check_cameras(cameras[[0, 0]])
    turned = cameras[[0, 0]].c2w.clone()
    turned[1, :3, :3] = turned[1, :3, :3] @ torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    check_cameras(Cameras(turned, cameras.K[:2], cameras.height, cameras.width))


def test_check_cameras_accepts_poses_rounded_to_four_digits(exact_capture):
    check_cameras(replace(exact_capture.cameras, c2w=(exact_capture.cameras.c2w * 1e4).round() / 1e4))


def test_unproject_refuses_depth_of_another_size(exact_capture):
    with pytest.raises(InputError, match="depth must have shape"):
        unproject(torch.ones(3, 10, 10), exact_capture.cameras)
