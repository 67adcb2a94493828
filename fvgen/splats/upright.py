"""A splat as web viewers expect it: upright, without broken, invisible or far Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.geometry.photo_order import focus_point
from fvgen.splats.gaussians import Gaussians
from fvgen.types import Cameras

INVISIBLE = math.log(1 / 254)
"""Logit of the opacity 1/255, below which no rasterizer draws a Gaussian."""
BACKGROUND_DISTANCE = 4.0
"""Camera distances beyond which a Gaussian counts as background where the model does not say which are."""
_HELD_LEVEL, _TILTED = math.radians(3), math.radians(20)
"""How far the horizon of a photo is off as a rule, and how far the photos' mean up is from the vertical."""


def vertical_of(cameras: Cameras) -> Tensor:
    """[3] float64 direction that is up in photos which were held level.

    Photos that look down or up have a mean up that leans, but their horizons all lie level. Least squares of both, each
    by how far it is off as a rule; photos of one direction leave the mean up as it is.
    """
    across, up = (cameras.c2w[:, :3, axis].double().cpu() for axis in (0, 1))
    mean = -up.mean(dim=0)
    ridge = (_HELD_LEVEL / _TILTED) ** 2 * torch.eye(3, dtype=torch.float64)
    vertical = torch.linalg.solve(across.T @ across + ridge, mean)
    return vertical / vertical.norm()


def upright_rotation(up: Tensor) -> Tensor:
    """[3, 3] float64 the shortest rotation that takes the direction ``up`` [3] to -y: up in the files of 3DGS.

    Raises:
        InputError: ``up`` has no direction.
    """
    up = up.double()
    length = float(up.norm())
    require(math.isfinite(length) and length > 0, "--up", "be a direction", up.tolist(), "Leave it out.")
    a, b = up / length, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    if float(a @ b) < -1 + 1e-12:  # half round, about x
        return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    v = torch.linalg.cross(a, b)
    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]], dtype=torch.float64)
    turned = torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + a @ b)  # Rodrigues
    u, _, vh = torch.linalg.svd(turned)  # near half a round 1 + a @ b has few digits left
    return u @ vh


def turned_cameras(cameras: Cameras, rotation: Tensor) -> Cameras:
    """The same cameras in a scene that is turned by ``rotation`` [3, 3] about the origin."""
    around = torch.eye(4, dtype=cameras.c2w.dtype, device=cameras.c2w.device)
    around[:3, :3] = rotation
    return Cameras(around @ cameras.c2w, cameras.K, cameras.height, cameras.width)


def drawable(gaussians: Gaussians) -> Tensor:
    """[N] bool: finite, and not too faint to be drawn."""
    return gaussians.finite() & (gaussians.opacities >= INVISIBLE)


def within(gaussians: Gaussians, cameras: Cameras, distances: float) -> Tensor:
    """[N] bool: centres near what the photos look at.

    Args:
        gaussians: N.
        cameras: of the photos.
        distances: radius, in mean distances of the cameras from there.
    """
    focus = focus_point(cameras).double().cpu()
    radius = distances * (cameras.positions.double().cpu() - focus).norm(dim=1).mean()
    return (gaussians.means.double().cpu() - focus).norm(dim=1) <= radius
