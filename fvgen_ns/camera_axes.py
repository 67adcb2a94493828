"""OpenGL <-> OpenCV camera axes, and Nerfstudio cameras <-> fvgen cameras, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from torch import Tensor

from fvgen.data.capture import CaptureFrame
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


def to_nerfstudio(
    frames: Sequence[CaptureFrame], poses: Tensor, distortion_params: Tensor | None = None
) -> NerfstudioCameras:
    """The cameras of a capture's frames as Nerfstudio's perspective cameras, each of its own size.

    Args:
        frames: F frames, whose intrinsics and sizes count.
        poses: [F, 3, 4] camera-to-world, OpenGL axes.
        distortion_params: [F, 6] Nerfstudio's k1 k2 k3 k4 p1 p2; None for none.
    """
    K = torch.from_numpy(np.stack([frame.K for frame in frames])).float()
    size = torch.tensor([frame.size for frame in frames])
    return NerfstudioCameras(
        camera_to_worlds=poses.float(),
        fx=K[:, 0, 0, None],
        fy=K[:, 1, 1, None],
        cx=K[:, 0, 2, None],
        cy=K[:, 1, 2, None],
        width=size[:, :1],
        height=size[:, 1:],
        distortion_params=distortion_params,
        camera_type=CameraType.PERSPECTIVE,
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
