from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle_matcher import KnownPhoto
from room_photographs import HEIGHT, WIDTH, photograph, store_photos

from fvgen.geometry.cameras import look_at
from fvgen.procedural.rooms.capture import RoomCapture, room_cameras
from fvgen.types import Cameras


@pytest.fixture(scope="session")
def room_photos() -> list[KnownPhoto]:
    """Five photos of a room on an arc, 240x160."""
    return photograph(room_cameras(RoomCapture(width=WIDTH, height=HEIGHT, train=5, test=0), seed=0))


@pytest.fixture(scope="session")
def other_room() -> list[KnownPhoto]:
    """Three photos of another room."""
    return photograph(room_cameras(RoomCapture(width=WIDTH, height=HEIGHT, train=3, test=0), seed=5), room=5)


@pytest.fixture(scope="session")
def panorama(room_photos) -> list[KnownPhoto]:
    """Four photos from one place, turned by 8 degrees from one to the next."""
    first = room_photos[2].camera
    angles = torch.deg2rad(torch.tensor([-12.0, -4, 4, 12], dtype=torch.float64))
    ahead = torch.stack([angles.sin(), 0 * angles, angles.cos()], dim=1) @ first.c2w[0, :3, :3].T
    eye = first.positions[0].expand(4, 3)
    up = torch.tensor([0.0, 0, 1], dtype=torch.float64)
    return photograph(Cameras(look_at(eye, eye + ahead, up), first.K.repeat(4, 1, 1), HEIGHT, WIDTH))


@pytest.fixture
def stored(tmp_path):
    """``stored(photos)``: them as PNG files, taken in; and the matcher that knows them."""

    return lambda known, scenes=None: store_photos(tmp_path / "photos", known, scenes)


@pytest.fixture
def upright_pose():
    """``upright_pose(placement, i)``: a placed photo's camera-to-world, upright, OpenCV axes."""
    from fvgen.poses.sensor_frame import SensorFrame

    def pose(placement, photo: int) -> np.ndarray:
        return SensorFrame(*placement.matches.photos[photo].size).upright_pose(placement.model.c2w[photo])

    return pose
