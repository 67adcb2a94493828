"""Nerfstudio's cameras <-> fvgen's: axes and intrinsics, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from torch import Tensor

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.lenses import UNDISTORT
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


def no_cameras() -> NerfstudioCameras:
    """A batch of none."""
    none = torch.zeros(0, 1)
    return NerfstudioCameras(torch.zeros(0, 3, 4), none, none, none, none, none.long(), none.long())


def poses_and_lenses(
    cameras: NerfstudioCameras,
) -> list[tuple[np.ndarray, np.ndarray, tuple[int, int], tuple[float, ...]]]:
    """For each camera: c2w [4, 4] with OpenCV axes, K [3, 3], (width, height), and OpenCV's k1 k2 p1 p2 k3.

    Raises:
        InputError: one is no perspective camera, or has a lens that these five numbers do not describe.
    """
    types = {int(kind) for kind in cameras.camera_type.flatten()}
    require(
        types <= {CameraType.PERSPECTIVE.value},
        "cameras",
        "be perspective cameras",
        sorted(CameraType(kind).name for kind in types),
        UNDISTORT,
    )
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1)
    c2w[:, :3] = flip_axes(cameras.camera_to_worlds.double())
    K = cameras.get_intrinsics_matrices().double()
    return [
        (
            c2w[i].numpy(),
            K[i].numpy(),
            (int(cameras.width[i]), int(cameras.height[i])),
            _distortion(cameras.distortion_params, i),
        )
        for i in range(len(cameras))
    ]


def _distortion(parameters: torch.Tensor | None, index: int) -> tuple[float, ...]:
    """OpenCV's k1 k2 p1 p2 k3 from Nerfstudio's k1 k2 k3 k4 p1 p2."""
    if parameters is None:
        return (0.0,) * 5
    k1, k2, k3, k4, p1, p2 = (float(value) for value in parameters[index])
    require(k4 == 0, "distortion k4", "be 0 for a perspective camera", k4, UNDISTORT)
    return k1, k2, p1, p2, k3
