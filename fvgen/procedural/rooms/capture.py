"""Procedural captures on disk: the demo's room, and a tiny one for tests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fvgen.checks import require
from fvgen.devices import cpu_count
from fvgen.files import whole_file, write_json
from fvgen.geometry.cameras import look_at, project, unproject
from fvgen.geometry.points import write_ply
from fvgen.procedural.rooms.room import FOCUS, make_room
from fvgen.procedural.rooms.scene import render_scene
from fvgen.types import Cameras, PointCloud, Progress, no_progress

_ARC = 80.0
"""Degrees from the first photo to the last, around the room's focus."""
_RADIUS = 2.75
"""Metres from the cameras to the focus, seen from above."""
_FOCAL = 0.69
"""Focal length over image width: 72 degrees from side to side, as a phone's wide lens."""
_EYE_HEIGHT = 1.45
"""Metres above the floor at which photos are taken, on the mean."""
_DEPTH_UNIT = 1e-3
"""Metres of one step of a depth file."""

_CAMERA_STREAM, _POINT_STREAM = 1, 2
"""Random numbers of their own for the cameras and for the sparse points, beside those of the room's looks."""

_DEPTH_NOISE = 0.003
"""Deviation of a sparse point along the view, as a share of its distance."""
_PIXEL_NOISE = 0.3
"""Deviation of a sparse point across the view, in pixels."""
_CORNER_QUALITY = 0.02
"""Least strength of a corner, as a share of the strongest one's."""
_CORNER_DISTANCE = 0.012
"""Least distance between two corners of a photo, as a share of its width."""
_ONE_SURFACE = 1.03
"""Most ratio of depths in a window that lies within one surface."""
_SAME_PLACE = 0.02
"""Relative difference of depth within which two photos see the same place."""


@dataclass(frozen=True)
class RoomCapture:
    """Number and size of a room capture's photos, and of its points."""

    width: int = 480
    height: int = 320
    train: int = 6
    test: int = 6
    points: int = 500
    """Most sparse points."""
    supersampling: int = 2
    """Rays along each side of a pixel."""


DEMO = RoomCapture()
TINY = RoomCapture(width=96, height=64, train=4, test=2, points=150)
"""Small enough to be made in a test."""


def write_room_capture(
    folder: Path,
    seed: int,
    layout: RoomCapture = DEMO,
    *,
    with_depth: bool = False,
    progress: Progress = no_progress,
) -> None:
    """Write a room as a Nerfstudio capture with exact poses.

    The training photos stand evenly on a wide arc; the held-out ones between them, a little off the arc. The sparse
    points are corners of the training photos as structure from motion would find them. Same arguments, same files;
    ``transforms.json`` comes last, so that a folder that has one is whole.

    Args:
        folder: made when it is not there.
        seed: decides the room's looks, the cameras and the sparse points.
        layout: number and size of the photos.
        with_depth: whether exact depth is written too, as 16-bit millimetres.
        progress: called after every photo.

    Raises:
        InputError: fewer than two training photos.
        OSError: the folder cannot be written.
    """
    require(layout.train >= 2, "train", "be at least 2 photos", layout.train, "Ask for more photos.")
    scene = make_room(seed)
    cameras = room_cameras(layout, seed)
    names = [f"images/{'train' if i < layout.train else 'test'}_{i:02d}.png" for i in range(len(cameras))]
    folder.mkdir(parents=True, exist_ok=True)  # refused before the work where it cannot be
    photos, depths = [], []
    with ThreadPoolExecutor(cpu_count()) as pool:
        views = pool.map(lambda i: render_scene(scene, cameras[i], layout.supersampling), range(len(names)))
        for i, (rgb, depth) in enumerate(views):
            photos.append(rgb[0])
            depths.append(depth[0])
            _write_image(folder / names[i], (255 * rgb[0].permute(1, 2, 0)).round().byte().numpy())
            progress(i + 1, len(names), "drawing the room")
    train = slice(0, layout.train)
    cloud = sparse_points(torch.stack(photos[train]), torch.stack(depths[train]), cameras[train], layout.points, seed)
    write_ply(folder / "sparse_pc.ply", cloud)
    depth_names = [name.replace("images/", "depth/") for name in names] if with_depth else []
    for name, depth in zip(depth_names, depths, strict=False):
        _write_image(folder / name, (depth / _DEPTH_UNIT).round().numpy().astype(np.uint16))
    _write_description(folder / "transforms.json", cameras, names, depth_names, layout.train)


def room_cameras(layout: RoomCapture, seed: int) -> Cameras:
    """The training cameras, then the held-out ones; float64."""
    rng = np.random.default_rng([seed, _CAMERA_STREAM])
    along = np.concatenate([np.linspace(0, 1, layout.train), (np.arange(layout.test) + 0.5) / max(layout.test, 1)])
    held_out = np.arange(len(along)) >= layout.train
    angle = np.radians(_ARC) * (along - 0.5)
    radius = _RADIUS + np.where(held_out, rng.uniform(-0.15, 0.05, len(along)), rng.uniform(-0.1, 0.1, len(along)))
    height = _EYE_HEIGHT + 0.15 * np.sin(7 * along) + np.where(held_out, rng.uniform(-0.1, 0.1, len(along)), 0)
    eye = np.stack([FOCUS[0] + radius * np.sin(angle), FOCUS[1] - radius * np.cos(angle), height], axis=1)
    target = np.array(FOCUS) + rng.uniform(-0.1, 0.1, (len(along), 3))
    c2w = look_at(torch.from_numpy(eye), torch.from_numpy(target), torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    focal = _FOCAL * layout.width
    K = torch.tensor([[focal, 0, layout.width / 2], [0, focal, layout.height / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(c2w, K.repeat(len(c2w), 1, 1), layout.height, layout.width)


def sparse_points(photos: Tensor, depths: Tensor, cameras: Cameras, count: int, seed: int) -> PointCloud:
    """Corners that two photos see, as structure from motion leaves them: few, on texture, slightly off.

    Args:
        photos: [V, 3, H, W].
        depths: [V, H, W], exact.
        cameras: V cameras.
        count: most points.
        seed: decides their noise, about a third of a pixel across and 0.3 % of the distance along the view.
    """
    rng = np.random.default_rng([seed, _POINT_STREAM])
    xyz, rgb = [], []
    for i in range(len(photos)):
        u, v = _corners(photos[i], depths[i], -(-count // len(photos)))
        noisy = depths[i].clone()
        noisy[v, u] *= 1 + _DEPTH_NOISE * torch.from_numpy(rng.standard_normal(len(u))).float()
        points = unproject(noisy[None], cameras[i])[0, v, u]
        points += (
            torch.from_numpy(rng.standard_normal(points.shape)).float()
            * noisy[v, u, None]
            * (_PIXEL_NOISE / cameras.K[i, 0, 0].float())
        )
        others = [j for j in range(len(photos)) if j != i]
        seen = _visible(points, cameras[others], depths[others]).any(dim=0)
        xyz.append(points[seen])
        rgb.append(photos[i][:, v, u].T[seen])
    cloud = torch.cat(xyz).float()
    return PointCloud(cloud, torch.cat(rgb), torch.ones(len(cloud)))


def _corners(photo: Tensor, depth: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Columns and rows of up to ``count`` strong corners of a photo [3, H, W] that lie within one surface."""
    grey = (255 * photo.mean(dim=0)).byte().numpy()
    shape = np.ones((3, 3), np.uint8)
    near, far = (change(depth.numpy(), shape) for change in (cv2.erode, cv2.dilate))
    smooth = (far < _ONE_SURFACE * near).astype(np.uint8)
    found = cv2.goodFeaturesToTrack(grey, count, _CORNER_QUALITY, _CORNER_DISTANCE * grey.shape[1], mask=smooth)
    pixels = np.zeros((0, 2)) if found is None else found.reshape(-1, 2)
    u, v = torch.from_numpy(pixels).long().T
    return u, v


def _visible(xyz: Tensor, cameras: Cameras, depths: Tensor) -> Tensor:
    """[C, P] whether each point [P, 3] is the surface that camera c sees there, by its depth [C, H, W]."""
    uv, z = project(xyz, cameras)
    column, row = uv.floor().long().unbind(dim=-1)
    inside = (z > 0) & (column >= 0) & (column < cameras.width) & (row >= 0) & (row < cameras.height)
    index = row.clamp(0, cameras.height - 1) * cameras.width + column.clamp(0, cameras.width - 1)
    surface = depths.flatten(1).gather(1, index)
    return inside & ((z - surface).abs() < _SAME_PLACE * surface)


def _write_image(path: Path, pixels: np.ndarray) -> None:
    with whole_file(path) as unfinished:
        Image.fromarray(pixels).save(unfinished, format="PNG")


def _write_description(path: Path, cameras: Cameras, names: list[str], depths: list[str], train: int) -> None:
    opengl = cameras.c2w.clone()
    opengl[:, :3, 1:3] *= -1
    K = cameras.K[0]
    frames = [{"file_path": name, "transform_matrix": opengl[i].tolist()} for i, name in enumerate(names)]
    for frame, depth in zip(frames, depths, strict=False):
        frame["depth_file_path"] = depth
    meta = {
        "camera_model": "PINHOLE",
        "w": cameras.width,
        "h": cameras.height,
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
        "ply_file_path": "sparse_pc.ply",
        "train_filenames": names[:train],
        "val_filenames": names[train:],
        "test_filenames": names[train:],
        "frames": frames,
    }
    write_json(path, meta)
