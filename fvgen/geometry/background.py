"""Points for what the dense cloud leaves empty in the photos: sky, table, lawn, a defocused room.

A depth map of few cells is completed per photo. Empty cells look for a depth at which the other photos show the same
colour and none of them sees something farther through it. Where that says nothing, surfaces go on smoothly from what is
known and turn into a sphere around the scene farther away. Photos are completed one after another, so that one
layer of points serves all that see it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.ndimage import binary_closing, distance_transform_edt
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.points import empty_cloud, merge
from fvgen.geometry.push_pull import push_pull
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
_REACH = 0.15
"""Share of the grid's longer side over which surfaces go on before they have turned into the sphere."""
_LEVELS = 32
"""Depths that a cell chooses from, evenly spaced in inverse depth."""
_THROUGH = 0.95
"""A photo sees through a place nearer than this share of the depth known there; it does not see what lies behind."""
_COLOUR = 0.12
"""Mean difference of colours, in [0, 1], from which two cells are as different as any."""
_SILENT = 0.35
"""Cost of a place that no other photo speaks about; 0 is agreement and 1 is contradiction."""
_UNEXPECTED = 0.3
"""Cost of the nearest depth where the sphere is expected, or the other way round."""
_DETAIL = 0.05
"""Deviation of the colours within a cell from which it gets four points."""
_SAME_COLOUR = 0.08
"""Difference of colours up to which a point of one photo completes the map of another, too."""


def background_points(capture: Capture, geometry: SceneGeometry) -> PointCloud:
    """Points where no photo has any of the cloud, four where it shows detail; of confidence 0.

    They lie within `SPHERE` radii of the scene and outside the near field of every camera.

    Args:
        capture: V photos.
        geometry: of the same photos; without points there is nothing to start from, and nothing is returned.
    """
    if not len(geometry.points):
        return empty_cloud(capture.photos.device)
    maps = _CellMaps.of(capture, geometry)
    clouds = []
    for photo in maps.share.mean(dim=(1, 2)).argsort(stable=True).tolist():  # the emptiest first: it sees most of it
        gaps = binary_closing(maps.covered[photo].cpu().numpy())
        hole = maps.usable[photo] & ~maps.covered[photo] & ~torch.from_numpy(gaps).to(maps.covered.device)
        if not hole.any() or not maps.covered[photo].any():
            continue
        inverse = _completed(maps, photo, hole)
        clouds.append(_points(maps, photo, inverse, hole))
        _pass_on(maps, photo, inverse, hole)
    points = merge(clouds) if clouds else empty_cloud(capture.photos.device)
    distance = torch.cdist(points.xyz.double(), maps.cameras.positions.double())
    return points[(distance > maps.near).all(dim=1)]


@dataclass
class _CellMaps:
    """What is known of V photos on a grid of h x w cells; completed in place."""

    cameras: Cameras
    """For pictures of h x w pixels."""
    photos: Tensor
    """[V, 3, 2h, 2w]: four colours a cell"""
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
    inverse: Tensor
    """[V, h, w] inverse depth where covered"""
    far: Tensor
    """[V, h, w] inverse depth of the sphere"""
    near: Tensor
    """[V] distance from a camera within which no background lies"""

    @classmethod
    def of(cls, capture: Capture, geometry: SceneGeometry) -> _CellMaps:
        """Of a capture whose cloud is not empty."""
        cameras = capture.cameras
        longest = max(cameras.height, cameras.width)
        factor = min(GRID, longest // _SAMPLES) / longest
        size = max(round(cameras.height * factor), 4), max(round(cameras.width * factor), 4)
        small = cameras.resized(*size)
        share, inverse = _drawn(geometry.points, cameras, size)
        covered = share >= _COVERED
        known = zip(inverse, covered, strict=True)
        nearest = torch.stack([_quantile(i[c], 0.98) if c.any() else inverse.max() for i, c in known])
        pool = functional.adaptive_avg_pool2d
        colour = pool(capture.photos, size)
        spread = (pool(capture.photos**2, size) - colour**2).clamp_min(0).mean(dim=1).sqrt()
        return cls(
            cameras=small,
            photos=pool(capture.photos, (2 * size[0], 2 * size[1])),
            colour=colour,
            detail=spread >= _DETAIL,
            usable=pool(capture.valid[:, None].to(colour), size)[:, 0] > _USABLE,
            share=share,
            covered=covered,
            inverse=inverse,
            far=_sphere(geometry.points, small),
            near=(NEAR_FIELD / nearest).double(),
        )


def _drawn(cloud: PointCloud, cameras: Cameras, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Share of each cell that a cloud covers and its inverse depth there (0 where nothing is), [V, h, w] each."""
    fine = cameras.resized(_SAMPLES * size[0], _SAMPLES * size[1])
    nearest = cloud.xyz.new_zeros(len(cameras), fine.height * fine.width)
    for i in range(len(cameras)):
        uv, z = project(cloud.xyz, fine[i])
        inside, index = _cells(uv[0], z[0], fine.height, fine.width)
        nearest[i].scatter_reduce_(0, index, 1 / z[0][inside], "amax")
    nearest = nearest.view(-1, 1, fine.height, fine.width)
    share = functional.avg_pool2d((nearest > 0).to(nearest), _SAMPLES)[:, 0]
    return share, functional.avg_pool2d(nearest, _SAMPLES)[:, 0] / share.clamp_min(1e-9)


def _cells(uv: Tensor, z: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which of P points fall into a picture [P] bool, and the index of the pixel of each that does."""
    column, row = uv[:, 0].floor(), uv[:, 1].floor()
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside, (row[inside] * width + column[inside]).long()


def _sphere(cloud: PointCloud, cameras: Cameras) -> Tensor:
    """[V, h, w] inverse depth of the sphere around cloud and cameras."""
    centre = cloud.xyz.median(dim=0).values
    origin = cameras.positions - centre
    radius = SPHERE * max(origin.norm(dim=1).max(), _quantile((cloud.xyz - centre).norm(dim=1), 0.95))
    rays = unproject(torch.ones_like(cloud.xyz[:1, :1]).expand(len(cameras), cameras.height, cameras.width), cameras)
    rays = rays - cameras.positions[:, None, None]
    a, b = rays.square().sum(dim=-1), torch.einsum("vhwi,vi->vhw", rays, origin)
    c = (origin.square().sum(dim=1) - radius**2)[:, None, None]
    inverse: Tensor = a / (-b + (b * b - a * c).sqrt())  # c < 0: the cameras stand inside
    return inverse


def _quantile(values: Tensor, share: float) -> Tensor:
    """Of any number of values, which `torch.quantile` does not take."""
    return values.flatten().kthvalue(max(round(share * values.numel()), 1)).values


def _completed(maps: _CellMaps, photo: int, hole: Tensor) -> Tensor:
    """[h, w] inverse depth of one photo, chosen in the cells of ``hole`` [h, w]."""
    far, covered = maps.far[photo], maps.covered[photo]
    smooth = push_pull(maps.inverse[photo][None, None], covered[None, None].to(far))[0, 0]
    away = torch.from_numpy(distance_transform_edt((~covered).cpu().numpy())).to(far)
    blend = (away / (_REACH * max(far.shape))).clamp_max(1)
    prior = (1 - blend) * smooth + blend * far
    top = _quantile(maps.inverse[photo][covered], 0.98)  # what is nearer would hide the scene from other cameras
    levels = torch.linspace(0, 1, _LEVELS, device=far.device, dtype=far.dtype)
    inverse = torch.cat([prior[..., None], far[..., None] + (top - far).clamp_min(0)[..., None] * levels], dim=-1)
    cost = _mean_around(_disagreement(maps, photo, inverse).permute(2, 0, 1), hole).permute(1, 2, 0)
    cost = cost + _UNEXPECTED * (inverse - prior[..., None]).abs() / (top - far.min()).clamp_min(1e-9)
    return inverse.gather(-1, cost.argmin(dim=-1, keepdim=True))[..., 0]


def _mean_around(values: Tensor, where: Tensor) -> Tensor:
    """[C, h, w] means over 3 x 3 cells, of those ``where`` [h, w] is True."""
    weight = where.to(values)[None]
    total = functional.avg_pool2d(values * weight, 3, 1, 1)
    mean: Tensor = total / functional.avg_pool2d(weight, 3, 1, 1).clamp_min(1e-6)
    return mean


def _disagreement(maps: _CellMaps, photo: int, inverse: Tensor) -> Tensor:
    """[h, w, L] in [0, 1]: how much the other photos contradict each cell at L inverse depths [h, w, L]."""
    height, width, levels = inverse.shape
    rays = unproject(torch.ones_like(inverse[None, ..., 0]), maps.cameras[photo])[0] - maps.cameras.positions[photo]
    xyz = (maps.cameras.positions[photo] + rays[..., None, :] / inverse[..., None]).view(-1, 3)
    own = maps.colour[photo].permute(1, 2, 0)[:, :, None]
    total, count = torch.zeros_like(inverse), torch.zeros_like(inverse)
    for other in range(len(maps.cameras)):
        if other == photo:
            continue
        uv, z = project(xyz, maps.cameras[other])
        inside, index = _cells(uv[0], z[0], height, width)
        place = torch.zeros_like(inside, dtype=torch.long).masked_scatter_(inside, index)
        ratio = (z[0] * maps.inverse[other].flatten()[place]).view_as(inverse)
        known = (inside & maps.covered[other].flatten()[place]).view_as(inverse)
        says = (inside & maps.usable[other].flatten()[place]).view_as(inverse)
        grid = (uv[0] / uv.new_tensor([width, height]) * 2 - 1).view(1, height, width * levels, 2)
        theirs = functional.grid_sample(maps.colour[other][None], grid, align_corners=False, padding_mode="border")[0]
        theirs = theirs.view(3, height, width, levels).permute(1, 2, 3, 0)
        differs = ((theirs - own).abs().mean(dim=-1) / _COLOUR).clamp_max(1)
        says &= ~(known & (ratio > 1 / _THROUGH))  # hidden there
        total += torch.where(known & (ratio < _THROUGH), 1.0, differs) * says
        count += says
    return torch.where(count > 0, total / count.clamp_min(1), _SILENT)


def _points(maps: _CellMaps, photo: int, inverse: Tensor, hole: Tensor) -> PointCloud:
    """One point in the middle of each empty cell, four where it shows detail."""
    clouds = []
    for fine, wanted in ((1, hole & ~maps.detail[photo]), (2, hole & maps.detail[photo])):
        cameras = maps.cameras[photo].resized(fine * inverse.shape[0], fine * inverse.shape[1])
        depth, chosen = (m.repeat_interleave(fine, 0).repeat_interleave(fine, 1) for m in (1 / inverse, wanted))
        colours = (maps.photos if fine == 2 else maps.colour)[photo].permute(1, 2, 0)
        xyz = unproject(depth[None], cameras)[0][chosen]
        clouds.append(PointCloud(xyz, colours[chosen], torch.zeros_like(xyz[:, 0])))
    return merge(clouds)


def _pass_on(maps: _CellMaps, photo: int, inverse: Tensor, hole: Tensor) -> None:
    """Cells of the other photos that see the completed ones, in the same colour, are covered from now on."""
    xyz = unproject(1 / inverse[None], maps.cameras[photo])[0][hole]
    rgb = maps.colour[photo].permute(1, 2, 0)[hole]
    height, width = inverse.shape
    for other in range(len(maps.cameras)):
        if other == photo:
            continue
        uv, z = project(xyz, maps.cameras[other])
        inside, index = _cells(uv[0], z[0], height, width)
        same = (maps.colour[other].flatten(1)[:, index].T - rgb[inside]).abs().mean(dim=1) < _SAME_COLOUR
        drawn = torch.zeros_like(inverse).flatten().scatter_reduce_(0, index[same], 1 / z[0][inside][same], "amax")
        drawn = drawn.view_as(inverse)
        count = 9 * functional.avg_pool2d((drawn > 0).to(drawn)[None], 3, 1, 1)[0]
        mean = 9 * functional.avg_pool2d(drawn[None], 3, 1, 1)[0] / count.clamp_min(1)
        new = ~maps.covered[other] & ((drawn > 0) | (count >= 5))  # their cells do not fall on these one by one
        maps.inverse[other] = torch.where(new, torch.where(drawn > 0, drawn, mean), maps.inverse[other])
        maps.covered[other] |= new
