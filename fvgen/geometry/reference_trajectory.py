"""ViewCrafter's own camera paths, reproduced for parity and for teacher runs that must look like its training data.

They are uneven by construction (the step before each photo is double the others, and intrinsics run on another
parameter than poses), so `fvgen.geometry.trajectory.path_between` is the better path for everything else. Every
function computes in float64 except the intrinsics, which the original interpolates in float32. Poses are
camera-to-world with OpenCV axes; `to_pytorch3d` gives the row-vector world-to-view form that PyTorch3D cameras take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.interpolate import UnivariateSpline
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from fvgen.checks import require

_ARM = 0.1
"""Length of the two arms that carry a camera's rotation through the interpolation, in scene units."""


def to_pytorch3d(c2w: Tensor) -> tuple[Tensor, Tensor]:
    """``R [F, 3, 3], T [F, 3]`` with ``X_view = X R + T`` (x left, y up) from OpenCV camera-to-world [F, 4, 4]."""
    flip = torch.tensor([-1.0, -1.0, 1.0], dtype=c2w.dtype, device=c2w.device)
    rotation = c2w[:, :3, :3] * flip
    return rotation, -(rotation.transpose(1, 2) @ c2w[:, :3, 3:])[..., 0]


def from_pytorch3d(rotation: Tensor, translation: Tensor) -> Tensor:
    """OpenCV camera-to-world [F, 4, 4], float64, from PyTorch3D's ``R [F, 3, 3], T [F, 3]``.

    The full inverse, so that inverting the result gives R and T back even where R, rounded to float32, is not quite
    orthonormal.
    """
    flip = torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64, device=rotation.device)
    w2c = torch.eye(4, dtype=torch.float64, device=rotation.device).repeat(len(rotation), 1, 1)
    w2c[:, :3, :3] = rotation.double().transpose(1, 2)
    w2c[:, :3, 3] = translation.double()
    c2w: Tensor = torch.linalg.inv(w2c) * flip
    return c2w


def interpolated_poses(c2w: Tensor, frames_per_clip: int) -> Tensor:
    """[(L-1)(V-1)+1, 4, 4] float64: straight lines between consecutive poses c2w [V, 4, 4], L = ``frames_per_clip``.

    Position, a point behind it and a point above it move linearly at parameter i/L for i = 0..L-2, so the next photo at
    parameter 1 is two steps away (a degree 1 spline with smoothing 0.03 passes exactly through its two points). The
    three points are formed in the dtype of ``c2w``, as in the original, because their differences give the rotation.
    """
    _check_path(c2w, frames_per_clip)
    position = c2w[:, :3, 3]
    behind = position - _ARM * c2w[:, :3, 2]
    above = position + _ARM * c2w[:, :3, 1]
    step = (torch.arange(frames_per_clip - 1, dtype=torch.float64, device=c2w.device) / frames_per_clip)[None, :, None]

    def along(points: Tensor) -> Tensor:
        start, end = points[:-1, None].double(), points[1:, None].double()
        return (start + step * (end - start)).reshape(-1, 3)

    position, behind, above = along(position), along(behind), along(above)
    z = torch.nn.functional.normalize(position - behind, dim=1)
    x = torch.nn.functional.normalize(torch.linalg.cross(above - position, z), dim=1)
    out = torch.eye(4, dtype=torch.float64, device=c2w.device).repeat(len(z), 1, 1)
    out[:, :3, :3] = torch.stack([x, torch.linalg.cross(z, x), z], dim=2)
    out[:, :3, 3] = position
    return torch.cat([out, c2w[-1:].double()])


def interpolated_values(values: Tensor, frames_per_clip: int) -> Tensor:
    """[(L-1)(V-1)+1, D]: focal lengths or principal points [V, D] at i/(L-2), so each photo's value comes twice."""
    weight = torch.linspace(0, 1, frames_per_clip - 1, dtype=values.dtype, device=values.device)[None, :, None]
    between = (1 - weight) * values[:-1, None] + weight * values[1:, None]
    return torch.cat([between.reshape(-1, values.shape[1]), values[-1:]])


def focus_path(c2w: Tensor, inserts: int) -> Tensor:
    """[(V-1)(inserts+1)+1, 4, 4] float64: each pair of poses [V, 4, 4] circles the point where their axes meet.

    The distance to that point is linear in the parameter, its direction is that of the straight line between the
    cameras, and the rotation is slerped.
    """
    parts = []
    for a, b in zip(c2w[:-1].double().cpu(), c2w[1:].double().cpu(), strict=True):
        focus = axes_meeting_point(torch.stack([a, b]))
        t = torch.linspace(0, 1, inserts + 2, dtype=torch.float64)[:-1]
        arm_a, arm_b = a[:3, 3] - focus, b[:3, 3] - focus
        direction = torch.nn.functional.normalize(arm_a + t[:, None] * (arm_b - arm_a), dim=1)
        distance = arm_a.norm() + t * (arm_b.norm() - arm_a.norm())
        turns = Slerp([0.0, 1.0], Rotation.from_matrix(torch.stack([a, b])[:, :3, :3].numpy()))
        pose = torch.eye(4, dtype=torch.float64).repeat(len(t), 1, 1)
        pose[:, :3, :3] = torch.from_numpy(turns(t.numpy()).as_matrix())
        pose[:, :3, 3] = focus + distance[:, None] * direction
        parts.append(pose)
    return torch.cat([*parts, c2w[-1:].double().cpu()]).to(c2w.device)


def axes_meeting_point(c2w: Tensor) -> Tensor:
    """[3] float64: the point with the least summed squared distance to the optical axes of c2w [V, 4, 4]."""
    axis = torch.nn.functional.normalize(c2w[:, :3, 2].double(), dim=1)
    across = torch.eye(3, dtype=torch.float64, device=c2w.device) - axis[:, :, None] * axis[:, None, :]
    target = (across @ c2w[:, :3, 3:].double()).sum(0)
    driver = "gelsd" if c2w.device.type == "cpu" else None
    point: Tensor = torch.linalg.lstsq(across.sum(0), target, driver=driver).solution
    return point[:, 0]


def world_to_object(
    c2w: Tensor, points: Tensor, camera: int, distance: float, elevation: float
) -> tuple[Tensor, Tensor]:
    """Poses [V, 4, 4] and points [..., 3] in the frame that ViewCrafter's single-view paths turn about.

    The frame lies ``distance`` in front of camera number ``camera``, tilted by ``elevation`` degrees. Float64.
    """
    tilt = math.radians(180 - elevation)
    to_object = torch.eye(4, dtype=torch.float64)
    # The inverse of the pose [R | (0, 0, distance)] with R the tilt about x, then the camera's own inverse.
    to_object[1:3, 1:3] = torch.tensor(
        [[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]], dtype=torch.float64
    )
    to_object[:3, 3] = -to_object[:3, 2] * distance
    matrix = to_object.to(c2w.device) @ torch.linalg.inv(c2w[camera].double())
    return matrix @ c2w.double(), points.double() @ matrix[:3, :3].T + matrix[:3, 3]


def turned_poses(anchor: Tensor, theta: Tensor, phi: Tensor, r: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[F, 4, 4] float64: ``anchor`` [4, 4] moved by (x, y, r), then turned by theta about x and by phi about y.

    theta, phi in degrees; every argument but ``anchor`` is [F].
    """
    pose = anchor.double().cpu().repeat(len(theta), 1, 1)
    pose[:, :3, 3] += torch.stack([x, y, r], dim=1).double()
    angles = torch.stack([theta, phi], dim=1).double().numpy()
    turn = torch.from_numpy(Rotation.from_euler("xy", angles, degrees=True).as_matrix())  # extrinsic: x first
    pose[:, :3] = turn @ pose[:, :3]
    return pose.to(anchor.device)


def specified_path(
    anchor: Tensor, d_theta: float, d_phi: float, d_r: float, d_x: float, d_y: float, frames: int
) -> Tensor:
    """[F, 4, 4]: from ``anchor`` [4, 4] evenly to the given turn (degrees), d_r (share of the anchor's z) and shift."""

    def ramp(end: float) -> Tensor:
        return torch.linspace(0, 1, frames, dtype=torch.float64) * end

    return turned_poses(anchor, ramp(d_theta), ramp(d_phi), ramp(d_r * float(anchor[2, 3])), ramp(d_x), ramp(d_y))


def listed_path(
    anchor: Tensor, theta: Sequence[float], phi: Sequence[float], r: Sequence[float], frames: int
) -> Tensor:
    """[F, 4, 4]: through listed turns (degrees) and distances (shares of the anchor's z), each resampled to F."""
    zero = torch.zeros(frames, dtype=torch.float64)
    along = _resampled(r, frames) * float(anchor[2, 3])
    return turned_poses(anchor, _resampled(theta, frames), _resampled(phi, frames), along, zero, zero)


def _resampled(values: Sequence[float], frames: int) -> Tensor:
    """[F]: more than three values by a cubic smoothing spline (SciPy's default smoothing), else linearly; ends kept."""
    knots = np.arange(len(values), dtype=np.float64)
    at = np.linspace(0, len(values) - 1, frames)
    out = UnivariateSpline(knots, values, k=3)(at) if len(values) > 3 else np.interp(at, knots, values)
    out[0], out[-1] = values[0], values[-1]
    return torch.from_numpy(out)


def _check_path(c2w: Tensor, frames_per_clip: int) -> None:
    require(len(c2w) >= 2, "cameras", "be at least 2 to have a path between them", len(c2w), "Add a photo.")
    require(
        frames_per_clip >= 3,
        "frames_per_clip",
        "be at least 3 (two photos and a frame between)",
        frames_per_clip,
        "Ask for more frames.",
    )
