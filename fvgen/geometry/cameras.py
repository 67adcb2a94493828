"""Pinhole cameras with OpenCV axes: projection, its inverse, and the check before any work.

Pixel centres lie at +0.5, so the image covers [0, W] x [0, H]. Formulas: Hartley & Zisserman, "Multiple View
Geometry", chapter 6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.types import Cameras

_ROTATION_TOLERANCE = 1e-3
"""Pose files are often rounded to a few digits; beyond this the rigid inverse would shift pixels visibly."""
_FARTHEST = 1e9
"""Scene units from the origin; map coordinates stay below, and beyond it float64 loses what a photo shows."""
_SAME_PLACE = 1e-6
"""Fraction of the capture's extent below which two camera centres are the same."""
_SAME_DIRECTION = 1e-5
"""Largest difference of rotation matrix entries below which two cameras look the same way."""


def project(xyz: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Pixel positions and depths of points.

    Args:
        xyz: [P, 3] in the world.
        cameras: C cameras.

    Returns:
        uv [C, P, 2] in pixels (finite, but a picture position only where z > 0) and z [C, P] along the viewing axis.
    """
    w2c = cameras.w2c.to(xyz.dtype)
    local = torch.einsum("cij,pj->cpi", w2c[:, :3, :3], xyz) + w2c[:, None, :3, 3]
    z = local[..., 2]
    in_front = z > 0
    homogeneous = torch.einsum("cij,cpj->cpi", cameras.K.to(xyz.dtype), local)
    return homogeneous[..., :2] / torch.where(in_front, z, torch.ones_like(z))[..., None], z


def pixel_rays(cameras: Cameras) -> Tensor:
    """[C, H, W, 3] camera-space rays through the pixel centres, with z = 1."""
    K = cameras.K
    x = torch.arange(cameras.width, device=K.device, dtype=K.dtype) + 0.5
    y = torch.arange(cameras.height, device=K.device, dtype=K.dtype) + 0.5
    fx, skew, cx, fy, cy = (K[:, i, j, None, None] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2)))
    ray_y = ((y[None, :, None] - cy) / fy).expand(-1, -1, cameras.width)
    ray_x = (x[None, None, :] - cx - skew * ray_y) / fx
    return torch.stack([ray_x, ray_y, torch.ones_like(ray_x)], dim=-1)


def unproject(depth: Tensor, cameras: Cameras) -> Tensor:
    """World positions of pixels; the inverse of `project` at the pixel centres.

    Args:
        depth: [C, H, W] along the viewing axis; where it is 0 the result is the camera centre.
        cameras: C cameras of that image size.

    Returns:
        xyz [C, H, W, 3].

    Raises:
        InputError: the depth maps do not fit the cameras.
    """
    expected = (len(cameras), cameras.height, cameras.width)
    require(
        depth.shape == expected,
        "depth",
        f"have shape {expected}",
        tuple(depth.shape),
        "Give one depth map per camera, of the cameras' image size.",
    )
    local = pixel_rays(cameras).to(depth.dtype) * depth[..., None]
    c2w = cameras.c2w.to(depth.dtype)
    return torch.einsum("cij,chwj->chwi", c2w[:, :3, :3], local) + c2w[:, None, None, :3, 3]


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Camera-to-world matrices that look from ``eye`` at ``target``.

    Args:
        eye: [..., 3] camera centres.
        target: [..., 3] points in the middle of the view; broadcast against ``eye``.
        up: [..., 3] directions that shall point up in the picture, of any length; broadcast against ``eye``.

    Returns:
        c2w [..., 4, 4], OpenCV axes.

    Raises:
        InputError: an eye lies on its target, or ``up`` is parallel to the view.
    """
    eye, target, up = torch.broadcast_tensors(eye, target, up)
    forward = target - eye
    distance = forward.norm(dim=-1, keepdim=True)
    require(bool((distance > 0).all()), "eye", "differ from target", eye.tolist(), "Move the camera or its target.")
    forward = forward / distance
    right = torch.linalg.cross(forward, up / up.norm(dim=-1, keepdim=True))
    sine = right.norm(dim=-1, keepdim=True)
    require(
        bool((sine > 1e-6).all()), "up", "not be zero or parallel to the view", up.tolist(), "Choose another up vector."
    )
    right = right / sine
    c2w = torch.zeros(*eye.shape[:-1], 4, 4, dtype=eye.dtype, device=eye.device)
    c2w[..., :3, 0] = right
    c2w[..., :3, 1] = torch.linalg.cross(forward, right)
    c2w[..., :3, 2] = forward
    c2w[..., :3, 3] = eye
    c2w[..., 3, 3] = 1
    return c2w


def check_cameras(cameras: Cameras, names: Sequence[str] | None = None) -> None:
    """Refuse cameras that geometry cannot start from.

    Args:
        cameras: C cameras.
        names: what errors call them; "camera 0" and so on without it.

    Raises:
        InputError: fewer than two cameras, numbers that are not finite, a matrix that is no rigid motion (mirrored,
            scaled or sheared), a focal length that is not positive, or two cameras with one pose. Names the camera.
    """
    require(
        len(cameras) >= 2, "the number of posed photos", "be at least 2", len(cameras), "Add photos to the capture."
    )
    names = names or [f"camera {i}" for i in range(len(cameras))]
    c2w, K = cameras.c2w.double().cpu(), cameras.K.double().cpu()
    for i, name in enumerate(names):
        check_camera(c2w[i], K[i], name)
    _check_distinct(c2w, names)


def check_camera(c2w: Tensor, K: Tensor, camera: str) -> None:
    """Refuse a camera, called ``camera`` in the error, with a pose or intrinsics that geometry cannot use.

    Args:
        c2w: [4, 4] float64 camera-to-world.
        K: [3, 3] float64 intrinsics.

    Raises:
        InputError: as `check_cameras` for one camera.
    """
    _check_pose(c2w, camera)
    _check_intrinsics(K, camera)


def _check_pose(c2w: Tensor, camera: str) -> None:
    """``c2w`` [4, 4] float64."""
    name = f"the pose of {camera}"
    again = "Estimate this camera's pose again or leave the photo out."
    require(bool(torch.isfinite(c2w).all()), name, "be finite", "NaN or infinity", again)
    require(
        torch.allclose(c2w[3], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)),
        name,
        "end in the row 0 0 0 1",
        c2w[3].tolist(),
        again,
    )
    require(
        float(c2w[:3, 3].abs().max()) <= _FARTHEST,
        name,
        f"lie within {_FARTHEST:.0e} units of the origin",
        c2w[:3, 3].tolist(),
        again,
    )
    rotation = c2w[:3, :3]
    error = float((rotation @ rotation.T - torch.eye(3, dtype=torch.float64)).abs().max())
    require(
        error < _ROTATION_TOLERANCE,
        name,
        "hold a rotation without scale or shear",
        f"R R^T off the identity by {error:.3g}",
        "Divide the 3x3 part by its scale, or estimate the pose again.",
    )
    determinant = float(torch.linalg.det(rotation))
    require(
        determinant > 0,
        name,
        "not be mirrored",
        f"a rotation of determinant {determinant:.3f}",
        "Flip one axis back: a flip of y must go with a flip of z.",
    )


def _check_intrinsics(K: Tensor, camera: str) -> None:
    """``K`` [3, 3] float64."""
    name = f"the intrinsics of {camera}"
    calibrate = "Give the camera's focal length and principal point in pixels."
    require(bool(torch.isfinite(K).all()), name, "be finite", K.tolist(), calibrate)
    require(
        bool(K[0, 0] > 0) and bool(K[1, 1] > 0),
        f"the focal length of {camera}",
        "be positive",
        (float(K[0, 0]), float(K[1, 1])),
        calibrate,
    )
    zeros = torch.stack([K[1, 0], K[2, 0], K[2, 1], K[2, 2] - 1])
    require(bool((zeros.abs() < 1e-9).all()), name, "be fx s cx, 0 fy cy, 0 0 1", K.tolist(), calibrate)


def repeated_poses(c2w: Tensor) -> list[tuple[int, int]]:
    """Pairs of cameras, first index before second, that stand at one place and look the same way.

    Args:
        c2w: [C, 4, 4] float64 camera-to-world.
    """
    positions = c2w[:, :3, 3]
    distance = torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")
    turn = (c2w[:, None, :3, :3] - c2w[None, :, :3, :3]).abs().amax(dim=(2, 3))
    same = (distance <= _SAME_PLACE * distance.max()) & (turn <= _SAME_DIRECTION)
    return [(first, second) for first, second in torch.nonzero(torch.triu(same, diagonal=1)).tolist()]


def _check_distinct(c2w: Tensor, names: Sequence[str]) -> None:
    """``c2w`` [C, 4, 4] float64."""
    for first, second in repeated_poses(c2w):
        require(
            False,
            "camera poses",
            "differ from each other",
            f"the same pose for {names[first]} and {names[second]}",
            "Leave one of the two photos out, or estimate the poses again.",
        )
