"""Camera paths: between the photos, around what they look at, or at given cameras.

`PATH_STYLES` names the ones a user can choose. All paths are `CameraPath`s: each frame knows its clip, i.e. the two
photos it lies between.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.geometry import reference_trajectory
from fvgen.geometry.camera_curve import CameraCurve
from fvgen.geometry.cameras import look_at
from fvgen.geometry.photo_order import focus_point, order_photos, view_change
from fvgen.types import CameraPath, Cameras

_CHANGE_PER_FRAME = 0.08
"""View change from frame to frame when the count follows the baseline: an orbit step of about 2.3 degrees."""
_FEWEST_FRAMES, _MOST_FRAMES = 9, 25
"""Frames of a clip, both photos counted, when the count follows the baseline; 25 is the teacher's window."""


def path_between(
    cameras: Cameras, order: Sequence[int], closed: bool, frames_per_clip: int | None = None
) -> CameraPath:
    """A smooth path through the photos in the given order, evenly spaced within each clip.

    Positions, rotations and intrinsics follow one `CameraCurve`. A photo's frame holds exactly the photo's numbers.

    Args:
        cameras: the V photos.
        order: photo indices as from `order_photos`.
        closed: end at the first photo again.
        frames_per_clip: frames from a photo to the next, both counted (2 gives the photos alone); by default as many as
            the change of view asks for.

    Returns:
        The path; neighbouring clips share the frame of the photo between them, a closed path ends with its first photo.

    Raises:
        InputError: fewer than two photos in the order, or fewer than two frames per clip.
    """
    require(len(order) >= 2, "order", "hold at least two photos", len(order), "Add photos to the capture.")
    require(
        frames_per_clip is None or frames_per_clip >= 2,
        "frames_per_clip",
        "be at least 2 (both photos counted)",
        frames_per_clip,
        "Ask for more frames.",
    )
    stops = [*order, order[0]] if closed else list(order)
    change = view_change(cameras, cameras)
    curve = CameraCurve(cameras, stops, closed, change)
    poses, intrinsics, ends, positions, photos = [], [], [], [], []
    for clip, (start, end) in enumerate(itertools.pairwise(stops)):
        count = frames_per_clip or _frames_for(float(change[start, end]))
        c2w, K = curve.frames(clip, count)
        photo = torch.full((count,), -1, dtype=torch.int64)
        photo[0], photo[-1] = start, end
        keep = slice(0 if clip == 0 else 1, None)
        poses.append(c2w[keep])
        intrinsics.append(K[keep])
        ends.append(torch.tensor([[start, end]]).expand(count, 2)[keep])
        positions.append(torch.linspace(0, 1, count)[keep])
        photos.append(photo[keep])
    photo = torch.cat(photos)
    between = _with_photos(cameras, photo, torch.cat(poses), torch.cat(intrinsics))
    return CameraPath(between, torch.cat(ends), torch.cat(positions), photo)


def _frames_for(change: float) -> int:
    return min(max(math.ceil(change / _CHANGE_PER_FRAME) + 1, _FEWEST_FRAMES), _MOST_FRAMES)


def _with_photos(cameras: Cameras, photo: Tensor, c2w: Tensor, K: Tensor) -> Cameras:
    """Frames c2w [F, 4, 4], K [F, 3, 3] as `Cameras`, bit for bit the photos' own at ``photo`` [F] >= 0."""
    dtype, device = cameras.c2w.dtype, cameras.c2w.device
    c2w, K, photo = c2w.to(device, dtype), K.to(device, cameras.K.dtype), photo.to(device)
    here = photo >= 0
    c2w[here], K[here] = cameras.c2w[photo[here]], cameras.K[photo[here]]
    return Cameras(c2w, K, cameras.height, cameras.width)


def path_at(photos: Cameras, targets: Cameras) -> CameraPath:
    """A path of given cameras: each frame's clip is the two photos whose views are nearest to it.

    ``position`` is the first one's share of the view change to both. No frame counts as a photo.
    """
    require(len(photos) >= 2, "photos", "be at least 2", len(photos), "Add photos to the capture.")
    change = view_change(photos, targets).T
    near, ends = change.topk(2, dim=1, largest=False)
    ends, flipped = ends.sort(dim=1)
    near = near.gather(1, flipped)
    position = near[:, 0] / near.sum(dim=1).clamp_min(1e-12)
    nobody = torch.full((len(targets),), -1, dtype=torch.int64)
    return CameraPath(targets, ends.cpu(), position.float().cpu(), nobody)


def orbit(cameras: Cameras, frames: int = 60, focus: Tensor | None = None) -> CameraPath:
    """A full circle around the focus at the photos' mean distance and height, looking at the focus.

    Args:
        cameras: the V photos; their mean upward direction is the circle's axis.
        frames: F, evenly spaced; the first follows the last.
        focus: [3]; `focus_point` of the photos when not given.
    """
    require(frames >= 1, "frames", "be at least 1", frames, "Ask for more frames.")
    focus = (focus_point(cameras) if focus is None else focus).double().cpu()
    up, away, _ = _frame_of(cameras, focus)
    arm = cameras.positions.double().cpu() - focus
    height = (arm @ up).mean()
    radius = (arm - (arm @ up)[:, None] * up).norm(dim=1).mean().clamp_min(1e-6)
    angle = torch.arange(frames, dtype=torch.float64) / frames * 2 * math.pi
    circle = angle.cos()[:, None] * away + angle.sin()[:, None] * torch.linalg.cross(up, away)
    return _path_of(cameras, look_at(focus + radius * circle + height * up, focus, up))


def spiral(cameras: Cameras, frames: int = 60, turns: int = 2, focus: Tensor | None = None) -> CameraPath:
    """A spiral about the mean camera, as wide as the photos' spread, looking at the focus (forward-facing captures).

    Args:
        cameras: the V photos.
        frames: F; the path closes.
        turns: rounds per closed path; the movement towards the focus makes one.
        focus: [3]; `focus_point` of the photos when not given.
    """
    require(frames >= 1, "frames", "be at least 1", frames, "Ask for more frames.")
    focus = (focus_point(cameras) if focus is None else focus).double().cpu()
    up, _, ahead = _frame_of(cameras, focus)
    axes = torch.stack([torch.linalg.cross(ahead, up), up, ahead])
    middle = cameras.positions.double().cpu().mean(0)
    offset = (cameras.positions.double().cpu() - middle) @ axes.T
    radius = offset.abs().quantile(0.9, dim=0)
    radius[2] = radius[2].clamp_max(0.3 * float((focus - middle) @ ahead))  # never through the focus
    angle = torch.arange(frames, dtype=torch.float64) / frames * 2 * math.pi
    waves = torch.stack([(turns * angle).cos(), (turns * angle).sin(), angle.sin()], dim=1)
    return _path_of(cameras, look_at(middle + (waves * radius) @ axes, focus, up))


def _frame_of(cameras: Cameras, focus: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The photos' up, the first photo's direction from the focus across it, the mean view across it: [3] each.

    Up is the direction across all the photos' horizontal axes, as far as those span a plane; else their mean up.
    """
    c2w = cameras.c2w.double().cpu()
    horizontal = c2w[:, :3, 0]
    spanned = horizontal.T @ horizontal / len(c2w) + 1e-4 * torch.eye(3, dtype=torch.float64)
    up = torch.nn.functional.normalize(torch.linalg.solve(spanned, -c2w[:, :3, 1].mean(0)), dim=0)

    def across(vector: Tensor) -> Tensor:
        flat = vector - (vector @ up) * up
        if float(flat.norm()) < 1e-9 * max(1.0, float(vector.norm())):  # along `up`: any direction across will do
            flat = torch.linalg.cross(up, torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())])
        return torch.nn.functional.normalize(flat, dim=0)

    return up, across(c2w[0, :3, 3] - focus), across(c2w[:, :3, 2].mean(0))


def _path_of(photos: Cameras, c2w: Tensor) -> CameraPath:
    """The path of c2w [F, 4, 4] with the photos' mean intrinsics."""
    K = photos.K.double().mean(0).to(photos.K).expand(len(c2w), 3, 3)
    return path_at(photos, Cameras(c2w.to(photos.c2w), K, photos.height, photos.width))


def _between(cameras: Cameras, frames_per_clip: int | None = None) -> CameraPath:
    return path_between(cameras, *order_photos(cameras), frames_per_clip)


def _orbit(cameras: Cameras, frames_per_clip: int | None = None) -> CameraPath:
    return orbit(cameras, (frames_per_clip or _MOST_FRAMES) * len(cameras))


def _spiral(cameras: Cameras, frames_per_clip: int | None = None) -> CameraPath:
    return spiral(cameras, (frames_per_clip or _MOST_FRAMES) * len(cameras))


def viewcrafter(cameras: Cameras, frames_per_clip: int | None = None) -> CameraPath:
    """The reference's uneven path through the photos in the order given (`reference_trajectory.interpolated_poses`)."""
    frames = frames_per_clip or _MOST_FRAMES
    c2w = reference_trajectory.interpolated_poses(cameras.c2w, frames)
    K = reference_trajectory.interpolated_values(cameras.K.flatten(1), frames).reshape(-1, 3, 3)
    index = torch.arange(len(c2w))
    clip, step = index // (frames - 1), index % (frames - 1)
    start = clip.clamp_max(len(cameras) - 2)
    position = torch.where(clip > start, torch.ones(len(c2w)), step / frames)
    photo = torch.where(step == 0, clip, torch.full_like(clip, -1))
    ends = torch.stack([start, start + 1], dim=1)
    return CameraPath(Cameras(c2w.to(cameras.c2w), K, cameras.height, cameras.width), ends, position, photo)


PATH_STYLES: Mapping[str, Callable[[Cameras, int | None], CameraPath]] = {
    "between": _between,
    "orbit": _orbit,
    "spiral": _spiral,
    "viewcrafter": viewcrafter,
}
"""``PATH_STYLES[name](cameras, frames_per_clip)``; without ``frames_per_clip`` the style chooses."""


def clips_of(path: CameraPath) -> list[Tensor]:
    """The path's clips as frame indices [L]: from photo to photo, or runs of the same two ends where no photo stands.

    Neighbouring clips share the frame of the photo between them, so a clip holds all that its generation needs.
    """
    frames, ends, photo = len(path), path.ends.tolist(), path.photo.tolist()
    cuts = [0]
    for i in range(1, frames):
        if photo[i - 1] >= 0 and i - 1 > cuts[-1]:
            cuts.append(i - 1)
        elif photo[i - 1] < 0 and ends[i] != ends[i - 1]:
            cuts.append(i)
    cuts.append(frames)
    shared = [1 if b < frames and photo[b] >= 0 else 0 for b in cuts[1:]]
    return [torch.arange(a, b + extra) for a, b, extra in zip(cuts[:-1], cuts[1:], shared, strict=True)]
