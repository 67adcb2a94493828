from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fvgen.geometry.cameras import look_at
from fvgen.poses.sensor_frame import SENSOR_WIDTH, SensorFrame

sizes = st.tuples(st.integers(64, 5000), st.integers(64, 5000))


def projected(xyz: np.ndarray, c2w: np.ndarray, focal: float, size: tuple[float, float]) -> np.ndarray:
    local = (xyz - c2w[:3, 3]) @ c2w[:3, :3]
    return focal * local[:, :2] / local[:, 2:] + np.array(size) / 2


@given(sizes, st.integers(0, 1000))
def test_a_photo_and_its_sensor_see_one_scene(size, seed):
    rng = np.random.default_rng(seed)
    eye, up = torch.from_numpy(rng.normal(size=3)), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    sensor = look_at(eye, eye + torch.tensor([1.0, 0.2, 0.1], dtype=torch.float64), up).numpy()
    frame = SensorFrame(*size)
    xyz = sensor[:3, 3] + (rng.uniform(-1, 1, (20, 3)) + np.array([0, 0, 3])) @ sensor[:3, :3].T
    upright = projected(xyz, frame.upright_pose(sensor), 700.0, size)
    assert np.allclose(frame.from_photo(upright), projected(xyz, sensor, 700 * frame.scale, frame.size), atol=1e-6)


@given(sizes)
def test_the_sensor_lies_on_its_long_side(size):
    width, height = SensorFrame(*size).size
    assert width == SENSOR_WIDTH
    assert height == pytest.approx(SENSOR_WIDTH * min(size) / max(size))


def test_an_image_turns_with_its_points():
    image = np.zeros((40, 20, 3), np.uint8)
    image[7, 4] = 255
    turned = SensorFrame(20, 40).image_from_photo(image)
    x, y = SensorFrame(20, 40).from_photo(np.array([[4.5, 7.5]]))[0] / SensorFrame(20, 40).scale
    assert turned.shape == (20, 40, 3)
    assert turned[int(y), int(x)].tolist() == [255, 255, 255]
