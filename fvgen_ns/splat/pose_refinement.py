"""Camera poses that are trained with the splat. Rasterizers take cameras as constants: the splat moves instead."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def moved_for(gaussians: Mapping[str, Tensor], c2w: Tensor, refined: Tensor) -> dict[str, Tensor]:
    """The Gaussians where the camera ``c2w`` sees them as ``refined`` sees them where they are.

    Colours that depend on the direction are not turned with them: refinements are turns of a degree or so.

    Args:
        gaussians: parameters, among them means [N, 3] and quats [N, 4] (w, x, y, z).
        c2w: [3 or 4, 4] camera-to-world.
        refined: the same camera's refined pose; gradients reach it.
    """
    rotation = c2w[:3, :3] @ refined[:3, :3].T
    offset = c2w[:3, 3] - rotation @ refined[:3, 3]
    return {
        **gaussians,
        "means": gaussians["means"] @ rotation.T + offset,
        "quats": _product(_quaternion(rotation), gaussians["quats"]),
    }


def _quaternion(rotation: Tensor) -> Tensor:
    """[4] (w, x, y, z) of a rotation [3, 3] by less than half a turn."""
    w = 0.5 * (1 + rotation.trace()).clamp_min(1e-6).sqrt()
    axis = rotation - rotation.T
    return torch.stack([w, axis[2, 1] / (4 * w), axis[0, 2] / (4 * w), axis[1, 0] / (4 * w)])


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Products of quaternions [4] and [N, 4]."""
    w, xyz = second[:, :1], second[:, 1:]
    scalar = first[0] * w - xyz @ first[1:, None]
    vector = first[0] * xyz + w * first[1:] + torch.linalg.cross(first[1:].expand_as(xyz), xyz)
    return torch.cat([scalar, vector], dim=1)
