"""Places of one camera's pixels in other cameras: depth without gaps, and photos warped through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.cell_maps import GRID
from fvgen.geometry.photo_order import focus_point
from fvgen.geometry.push_pull import push_pull
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import Cameras, Capture, SceneGeometry

_FILLED: WeakKeyDictionary[SceneGeometry, dict[int, Tensor]] = WeakKeyDictionary()
"""What `filled_photo_depths` has made, by geometry and photo."""
POINT_PIXELS = 1.0
"""Radius of a point in depth renders, in pixels."""
_BACKGROUND_RADIUS = 0.3 / GRID
"""Radius of a point of the background, as a share of the longer side: a part of its cell, with smooth depth between."""
_BEYOND = 0.03
"""Distance from the cloud, as a share of the diagonal, from which the background gives the depth: nearer, it would show
through gaps in the cloud."""
_FEATHER = 0.06
"""Share of the shorter side over which a photo fades in from its border, so that no seam shows there."""
_DEPTH_TOLERANCE = 0.03
"""Share of its depth by which a point may lie behind a photo's surface and still belong to it."""
_DEPTH_FALLOFF = 0.05
"""Share of its depth over which a point farther behind loses visibility by e."""


def warp_photos(
    photos: Tensor, valid: Tensor, depths: Tensor, cameras: Cameras, frame: Cameras, depth: Tensor
) -> tuple[Tensor, Tensor]:
    """S photos as they look from another camera of known depth.

    Args:
        photos: [S, 3, H, W].
        valid: [S, H, W] bool, False where a photo has no pixel.
        depths: [S, 1, H, W] without zeros, to find what is hidden in a photo.
        cameras: S cameras of the photos.
        frame: one camera.
        depth: [1, 1, H, W] of the frame, without zeros.

    Returns:
        colour [S, 3, H, W]; seen [S, 1, H, W] in [0, 1]: 0 out of the picture, low near its border, behind something
        nearer and where the photo would be drawn out.
    """
    height, width = depth.shape[-2:]
    uv, z = project(unproject(depth[:, 0], frame).reshape(-1, 3), cameras)
    uv, z = uv.view(-1, height, width, 2), z.view(-1, 1, height, width)
    size = torch.tensor([cameras.width, cameras.height], device=uv.device, dtype=uv.dtype)
    grid = uv / size * 2 - 1

    def sample(image: Tensor) -> Tensor:
        return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)

    inside = ((uv > 0) & (uv < size)).all(-1)[:, None] & (z > 0) & (sample(valid[:, None].to(photos.dtype)) > 0.99)
    to_border = torch.minimum(uv, size - uv).amin(-1)[:, None] / (_FEATHER * size.min())
    behind = (z / sample(depths) - 1 - _DEPTH_TOLERANCE).clamp_min(0)
    seen = torch.exp(-behind / _DEPTH_FALLOFF) * to_border.clamp(1e-3, 1) * _squareness(uv).clamp_min(1e-3)
    return sample(photos), inside * seen


def _squareness(uv: Tensor) -> Tensor:
    """[S, 1, H, W] short over long axis of what a frame's pixel covers in a photo, from uv [S, H, W, 2].

    A slanted surface is drawn out from few pixels of the photo; at a jump in depth the photo is torn.
    """
    down, right = torch.gradient(uv, dim=(1, 2))
    half_trace = ((down**2).sum(-1) + (right**2).sum(-1)) / 2
    off = torch.sqrt(((down**2).sum(-1) - (right**2).sum(-1)) ** 2 / 4 + (down * right).sum(-1) ** 2)
    # Singular values of the Jacobian are the roots of half_trace +- off.
    return (((half_trace - off).clamp_min(0) / (half_trace + off).clamp_min(1e-12)).sqrt())[:, None]


@dataclass(frozen=True)
class Neighbours:
    """S photos beside a frame."""

    photos: Tensor
    """[S, 3, H, W]"""
    valid: Tensor
    """[S, H, W] bool"""
    cameras: Cameras
    depths: Tensor
    """[S, 1, H, W] without zeros (see `filled_photo_depths`)"""
    known: Tensor
    """[S, 1, H, W] bool, where the depth was measured and not filled"""

    def reprojected(self, frame: Cameras, depth: Tensor) -> Reprojection:
        """What they show at the places that a frame (one camera) sees at ``depth`` [1, 1, H, W], without zeros."""
        shown = torch.cat([self.photos, self.depths, self.known.to(self.depths)], dim=1)
        sampled, seen = warp_photos(shown, self.valid, self.depths, self.cameras, frame, depth)
        _, z = project(unproject(depth[:, 0], frame).reshape(-1, 3), self.cameras)
        return Reprojection(sampled[:, :3], z.view_as(seen) / sampled[:, 3:4], sampled[:, 4:] > 0.99, seen)


@dataclass(frozen=True)
class Reprojection:
    """A frame's places in S photos."""

    colour: Tensor
    """[S, 3, H, W]"""
    depth_ratio: Tensor
    """[S, 1, H, W] of the place over what the photo has in that direction"""
    known: Tensor
    """[S, 1, H, W] bool, whether the photo has measured that"""
    seen: Tensor
    """[S, 1, H, W] as from `warp_photos`"""


class PhotosBeside:
    """What generated frames are compared with: the photos, and depth as seen from them."""

    def __init__(self, capture: Capture, geometry: SceneGeometry, ends: Tensor) -> None:
        self.capture = capture
        self.geometry, self.far = geometry, typical_depth(geometry)
        self.known = geometry.depths[:, None] > 0
        self.depths = filled_photo_depths(geometry, ends.unique().tolist())  # a path may be a clip of a long capture

    def reprojected(self, depth: Tensor, camera: Cameras, ends: Tensor) -> tuple[Tensor, Reprojection]:
        """Depth [1, 1, H, W] without zeros of one frame between the photos ``ends`` [2], and its places in them.

        Zeros in ``depth`` [1, 1, H, W] are filled.
        """
        at = torch.unique(ends).to(depth.device)
        capture = self.capture
        beside = Neighbours(capture.photos[at], capture.valid[at], capture.cameras[at], self.depths[at], self.known[at])
        depth = torch.where(depth > 0, depth, completed_depth(depth, self.geometry, camera, self.far))
        return depth, beside.reprojected(camera, depth)


def fill_depth(depth: Tensor, far: float) -> Tensor:
    """[F, 1, H, W] depth with its zeros filled: inverse depth, which is linear on planes, continued smoothly.

    Args:
        depth: [F, 1, H, W], 0 where unknown.
        far: what a frame without any known depth gets.
    """
    known = (depth > 0).to(depth.dtype)
    inverse = push_pull(torch.where(depth > 0, 1 / depth.clamp_min(1e-12), 0.0), known)
    empty = ~known.flatten(1).any(dim=1)
    inverse[empty] = 1 / far
    return 1 / inverse


def completed_depth(depth: Tensor, geometry: SceneGeometry, camera: Cameras, far: float) -> Tensor:
    """[1, 1, H, W] depth of one frame without zeros: away from what is known it is the background's, where the geometry
    has one, and between them it goes on smoothly.

    Args:
        depth: [1, 1, H, W], 0 where unknown.
        geometry: what is known of the scene.
        camera: the frame's.
        far: see `fill_depth`.
    """
    background = geometry.background
    if background is not None and len(background):
        height, width = depth.shape[-2:]
        radius = radius_of_pixels(_BACKGROUND_RADIUS * max(height, width), height, width)
        behind = resolve("front").render(background, camera, radius).depth
        depth = torch.where(cover_distance(depth > 0) > _BEYOND, behind, depth)
    return fill_depth(depth, far)


def cover_distance(covered: Tensor) -> Tensor:
    """[F, 1, H, W] distance to the nearest covered pixel as a share of the diagonal; 1 where nothing is covered."""
    height, width = covered.shape[-2:]
    out = []
    for mask in covered[:, 0].cpu().numpy():
        distance = (
            cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            if mask.any()
            else np.inf
        )
        out.append(np.minimum(np.broadcast_to(distance, mask.shape) / np.hypot(height, width), 1))
    return torch.from_numpy(np.stack(out).astype(np.float32))[:, None].to(covered.device) if out else covered.float()


def filled_photo_depths(geometry: SceneGeometry, photos: Sequence[int]) -> Tensor:
    """[V, 1, H, W] each wanted photo's own depth, else that of the cloud seen from it, else filled; others are 0.

    A path is drawn clip by clip, and neighbouring clips see the same photos: what was filled is kept as long as the
    geometry is.
    """
    known = _FILLED.setdefault(geometry, {})
    radius = radius_of_pixels(POINT_PIXELS, geometry.cameras.height, geometry.cameras.width)
    out = torch.zeros_like(geometry.depths)[:, None]
    for photo in photos:
        if photo not in known:
            own = geometry.depths[photo][None, None]
            seen = resolve("front").render(geometry.points, geometry.cameras[photo], radius).depth
            depth = torch.where(own > 0, own, seen)
            known[photo] = completed_depth(depth, geometry, geometry.cameras[photo], typical_depth(geometry))
        out[photo] = known[photo][0]
    return out


def typical_depth(geometry: SceneGeometry) -> float:
    """The median known depth; without any, the distance to what the cameras look at."""
    known = geometry.depths[geometry.depths > 0]
    if len(known):
        return float(known.median())
    cameras = geometry.cameras
    return float((cameras.positions - focus_point(cameras)).norm(dim=1).median())
