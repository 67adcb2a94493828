"""A scene with exact depth: a slanted, textured wall and a textured board before it, cast ray by ray."""

import math

import pytest
import torch

from fvgen.geometry.cameras import look_at, pixel_rays
from fvgen.types import Cameras, Capture

_WALL = (torch.tensor([0.25, 0.0, 1.0]), 6.0)
_BOARD = (torch.tensor([0.0, 0.0, 1.0]), 4.0)
_BOARD_HALF = 0.7


def _texture(xyz: torch.Tensor, seed: int) -> torch.Tensor:
    """[.., 3] colours in [0, 1] at [.., 3] places: plane waves in random directions, pixel-sized and larger."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.full_like(xyz, 0.5)
    for frequency in (2.0, 4.0, 7.0, 12.0, 18.0):
        for _ in range(4):
            direction = torch.nn.functional.normalize(torch.randn(3, generator=generator), dim=0)
            phase = torch.rand(3, generator=generator) * 2 * math.pi
            colour = colour + 0.07 * torch.sin(frequency * (xyz @ direction)[..., None] + phase)
    return colour.clamp(0, 1)


def _cast(cameras: Cameras, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos [V, 3, H, W] and exact depth [V, H, W]."""
    rays = torch.einsum("cij,chwj->chwi", cameras.c2w[:, :3, :3], pixel_rays(cameras))
    origin = cameras.positions[:, None, None]
    reach = [(offset - (origin * normal).sum(-1)) / (rays * normal).sum(-1) for normal, offset in (_WALL, _BOARD)]
    board = origin + rays * reach[1][..., None]
    on_board = (board[..., :2].abs() < _BOARD_HALF).all(-1) & (reach[1] > 0)
    depth = torch.where(on_board, reach[1], reach[0])
    return _texture(origin + rays * depth[..., None], seed).permute(0, 3, 1, 2).contiguous(), depth


def make_capture(eyes: list[tuple[float, float, float]], height: int = 72, width: int = 96, seed: int = 0) -> Capture:
    """The scene from ``eyes`` looking at (0, 0, 5); `depths` is exact."""
    eye = torch.tensor(eyes)
    c2w = look_at(eye, torch.tensor([0.0, 0.0, 5.0]), torch.tensor([0.0, -1.0, 0.0]))
    K = torch.tensor([[100.0, 0, width / 2], [0, 100.0, height / 2], [0, 0, 1]]).expand(len(eyes), 3, 3).clone()
    cameras = Cameras(c2w, K, height, width)
    photos, depths = _cast(cameras, seed)
    return Capture(photos, cameras, torch.ones(len(eyes), height, width, dtype=torch.bool), None, depths)


@pytest.fixture(scope="session")
def exact_capture() -> Capture:
    """Three photos of the scene, with exact depth."""
    return make_capture([(-0.6, 0.0, 0.0), (0.0, 0.15, 0.0), (0.6, 0.0, 0.0)])


@pytest.fixture(scope="session")
def capture_from():
    """`make_capture`, for tests that need other cameras."""
    return make_capture
