"""What is known of photos on a grid of few cells: colours, what a cloud covers, and at which depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.points import empty_cloud
from fvgen.geometry.room import room_inverse_depth
from fvgen.types import Cameras, Capture, PointCloud, SceneGeometry

GRID = 48
"""Most cells on a photo's longer side."""
_SAMPLES = 4
"""Side of a cell in the samples that the cloud is drawn in, none finer than a pixel."""
_COVERED = 0.3
"""Share of its samples from which a cell counts as covered."""
_USABLE = 0.9
"""Share of its pixels that a photo must have in a cell."""
SPHERE = 3.0
"""Radius of the sphere that stands for far away, in radii of the scene."""
NEAR_FIELD = 0.5
"""Share of the nearest known depth in front of a camera where no background lies."""
_DETAIL = 0.05
"""Deviation of the colours within a cell from which it gets several points."""
_SHOWN = 0.12
"""Difference of colours, in [0, 1], up to which a photo shows a sparse point; what hides it mostly differs more."""


@dataclass
class CellMaps:
    """What is known of V photos on a grid of h x w cells; completed in place."""

    cameras: Cameras
    """For pictures of h x w pixels."""
    photos: Tensor
    """[V, 3, H, W]"""
    colour: Tensor
    """[V, 3, h, w]"""
    detail: Tensor
    """[V, h, w] bool"""
    usable: Tensor
    """[V, h, w] bool: where the photo has pixels."""
    share: Tensor
    """[V, h, w] that the cloud covers"""
    covered: Tensor
    """[V, h, w] bool"""
    anchored: Tensor
    """[V, h, w] bool: where a sparse point lies in an empty cell, outside the near field"""
    inverse: Tensor
    """[V, h, w] inverse depth where covered or anchored"""
    far: Tensor
    """[V, h, w] inverse depth of the sphere, or of a wall in front of it"""
    is_wall: Tensor
    """[V, h, w] bool"""
    near: Tensor
    """[V] distance from a camera within which no background lies"""

    @classmethod
    def of(cls, capture: Capture, geometry: SceneGeometry) -> CellMaps:
        """The maps of a capture whose cloud is not empty."""
        cameras = capture.cameras
        longest = max(cameras.height, cameras.width)
        factor = min(GRID, longest // _SAMPLES) / longest
        size = max(round(cameras.height * factor), 4), max(round(cameras.width * factor), 4)
        small = cameras.resized(*size)
        share, inverse = _drawn(geometry.points, cameras, size)
        covered = share >= _COVERED
        known = zip(inverse, covered, strict=True)
        nearest = torch.stack([quantile(i[c], 0.98) if c.any() else inverse.max() for i, c in known])
        far = _sphere(geometry.points, small)
        anchors = _anchors(capture, small)
        anchored = ~covered & (anchors > 0) & (anchors < nearest[:, None, None] / NEAR_FIELD)
        pool = functional.adaptive_avg_pool2d
        colour = pool(capture.photos, size)
        spread = (pool(capture.photos**2, size) - colour**2).clamp_min(0).mean(dim=1).sqrt()
        return cls(
            cameras=small,
            photos=capture.photos,
            colour=colour,
            detail=spread >= _DETAIL,
            usable=pool(capture.valid[:, None].to(colour), size)[:, 0] > _USABLE,
            share=share,
            covered=covered,
            anchored=anchored,
            inverse=torch.where(anchored, torch.maximum(anchors, far), inverse),
            far=far,
            is_wall=torch.zeros_like(covered),
            near=(NEAR_FIELD / nearest).double(),
        )

    def put_up(self, walls: Tensor) -> None:
        """Let planes [K, 4] stand in front of the sphere."""
        nearer = room_inverse_depth(walls, self.far, self.cameras)
        self.far, self.is_wall = nearer, nearer > self.far


def _drawn(cloud: PointCloud, cameras: Cameras, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Share of each cell that a cloud covers and its inverse depth there (0 where nothing is), [V, h, w] each."""
    fine = cameras.resized(_SAMPLES * size[0], _SAMPLES * size[1])
    nearest = cloud.xyz.new_zeros(len(cameras), fine.height * fine.width)
    for i in range(len(cameras)):
        uv, z = project(cloud.xyz, fine[i])
        inside, index = cells_of(uv[0], z[0], fine.height, fine.width)
        nearest[i].scatter_reduce_(0, index, 1 / z[0][inside], "amax")
    nearest = nearest.view(-1, 1, fine.height, fine.width)
    share = functional.avg_pool2d((nearest > 0).to(nearest), _SAMPLES)[:, 0]
    return share, functional.avg_pool2d(nearest, _SAMPLES)[:, 0] / share.clamp_min(1e-9)


def _anchors(capture: Capture, cells: Cameras) -> Tensor:
    """[V, h, w] inverse depth of the nearest sparse point that a photo shows in its own colour, 0 where none lies."""
    photos, size = capture.photos, (cells.height, cells.width)
    nearest = photos.new_zeros(len(cells), cells.height * cells.width)
    sparse = (capture.sparse or empty_cloud()).to(photos)
    for i in range(len(cells)) if len(sparse) else ():
        uv, z = project(sparse.xyz, cells[i])
        inside, index = cells_of(uv[0], z[0], *size)
        grid = (uv[0][inside] / uv.new_tensor(size[::-1]) * 2 - 1).view(1, 1, -1, 2)
        shown = functional.grid_sample(photos[i][None], grid, align_corners=False, padding_mode="border")
        same = (shown[0, :, 0].T - sparse.rgb[inside]).abs().mean(dim=1) < _SHOWN
        nearest[i].scatter_reduce_(0, index[same], 1 / z[0][inside][same], "amax")
    return nearest.view(-1, *size)


def cells_of(uv: Tensor, z: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which of P points fall into a picture [P] bool, and the index of the pixel of each that does."""
    column, row = uv[:, 0].floor(), uv[:, 1].floor()
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside, (row[inside] * width + column[inside]).long()


def _sphere(cloud: PointCloud, cameras: Cameras) -> Tensor:
    """[V, h, w] inverse depth of the sphere around cloud and cameras."""
    centre = cloud.xyz.median(dim=0).values
    origin = cameras.positions - centre
    radius = SPHERE * max(origin.norm(dim=1).max(), quantile((cloud.xyz - centre).norm(dim=1), 0.95))
    rays = unproject(torch.ones_like(cloud.xyz[:1, :1]).expand(len(cameras), cameras.height, cameras.width), cameras)
    rays = rays - cameras.positions[:, None, None]
    a, b = rays.square().sum(dim=-1), torch.einsum("vhwi,vi->vhw", rays, origin)
    c = (origin.square().sum(dim=1) - radius**2)[:, None, None]
    inverse: Tensor = a / (-b + (b * b - a * c).sqrt())  # c < 0: the cameras stand inside
    return inverse


def quantile(values: Tensor, share: float) -> Tensor:
    """Quantile of any number of values, which `torch.quantile` does not take."""
    return values.flatten().kthvalue(max(round(share * values.numel()), 1)).values
