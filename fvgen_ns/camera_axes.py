"""OpenGL <-> OpenCV camera axes, and Nerfstudio cameras <-> fvgen cameras, in one place."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from torch import Tensor

from fvgen.types import Cameras


def flip_axes(c2w: Tensor) -> Tensor:
    """[..., 3 or 4, 4] camera-to-world between OpenGL (y up, z back) and OpenCV (y down, z forward)."""
    flipped = c2w.clone()
    flipped[..., :3, 1:3] *= -1
    return flipped


def to_fvgen(cameras: NerfstudioCameras, height: int, width: int) -> Cameras:
    """Nerfstudio's perspective cameras (flat batch, all of size ``height`` x ``width``) as fvgen's."""
    c2w = torch.eye(4).repeat(len(cameras), 1, 1)
    c2w[:, :3] = flip_axes(cameras.camera_to_worlds.detach().cpu().float())
    return Cameras(c2w, cameras.get_intrinsics_matrices().cpu().float(), height, width)


def to_nerfstudio(cameras: Cameras) -> NerfstudioCameras:
    """fvgen's cameras as Nerfstudio's perspective cameras."""
    count = len(cameras)
    return NerfstudioCameras(
        camera_to_worlds=flip_axes(cameras.c2w)[:, :3].float(),
        fx=cameras.K[:, 0, 0, None].float(),
        fy=cameras.K[:, 1, 1, None].float(),
        cx=cameras.K[:, 0, 2, None].float(),
        cy=cameras.K[:, 1, 2, None].float(),
        width=torch.full((count, 1), cameras.width),
        height=torch.full((count, 1), cameras.height),
        distortion_params=torch.zeros(count, 6),
        camera_type=CameraType.PERSPECTIVE,
        metadata={},
    )


def concatenate(first: NerfstudioCameras, second: NerfstudioCameras) -> NerfstudioCameras:
    """Both batches of perspective cameras after one another; each keeps its own sizes."""

    def join(name: str) -> Tensor:
        return torch.cat([getattr(first, name).float(), getattr(second, name).float()])

    distortion = [
        torch.zeros(len(c), 6) if c.distortion_params is None else c.distortion_params for c in (first, second)
    ]
    return NerfstudioCameras(
        camera_to_worlds=join("camera_to_worlds"),
        fx=join("fx"),
        fy=join("fy"),
        cx=join("cx"),
        cy=join("cy"),
        width=join("width").long(),
        height=join("height").long(),
        distortion_params=torch.cat(distortion),
        camera_type=torch.cat([first.camera_type, second.camera_type]),
        metadata={},
    )
