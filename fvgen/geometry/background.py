"""Points for what the dense cloud leaves empty in the photos: sky, table, lawn, a defocused room.

A depth map of few cells is completed per photo. Empty cells look for a depth at which the other photos show the same
colour and none of them sees something farther through it. Where that says nothing, surfaces go on smoothly from what is
known, sparse points among it, and turn into the room around the scene farther away (`fvgen.geometry.room`). Photos are
completed one after another, so that one layer of points serves all that see it.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.ndimage import binary_closing, distance_transform_edt
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.cell_maps import CellMaps, cells_of, quantile
from fvgen.geometry.points import empty_cloud, merge
from fvgen.geometry.push_pull import push_pull
from fvgen.geometry.room import find_room
from fvgen.types import Capture, PointCloud, SceneGeometry

_REACH = 0.15
"""Share of the grid's longer side over which surfaces go on before they have turned into the room."""
_LEVELS = 32
"""Depths that a cell chooses from, evenly spaced in inverse depth."""
_THROUGH = 0.95
"""A photo sees through a place nearer than this share of the depth known there; it does not see what lies behind."""
_COLOUR = 0.12
"""Mean difference of colours, in [0, 1], from which two cells are as different as any."""
_SILENT = 0.35
"""Cost of a place that no other photo speaks about; 0 is agreement and 1 is contradiction."""
_UNEXPECTED = 0.3
"""Cost of the nearest depth where the farthest is expected, or the other way round."""
_FINE, _FINE_ON_WALL = 2, 4
"""Points along a side of a cell with detail, and of one on a wall of the room, whose depth is known better."""
_ON_WALL = 0.01
"""Share of its depth within which a point lies on a wall."""
_SAME_COLOUR = 0.08
"""Difference of colours up to which a point of one photo completes the map of another, too."""


def background_points(capture: Capture, geometry: SceneGeometry, walls: Tensor | None = None) -> PointCloud:
    """Points where no photo has any of the cloud, more where it shows detail. Confidence is 1 on walls and where
    another photo shows the same colour, and 0 where the depth is a guess.

    They lie within `SPHERE` radii of the scene, and outside the near field of every camera or on a wall.

    Args:
        capture: V photos.
        geometry: of the same photos; without points there is nothing to start from, and nothing is returned.
        walls: [K, 4] of `room_of`, where they are known already.
    """
    if not len(geometry.points):
        return empty_cloud(capture.photos.device)
    maps = CellMaps.of(capture, geometry)
    maps.put_up(_walls(maps, geometry) if walls is None else walls)
    clouds = []
    for photo in maps.share.mean(dim=(1, 2)).argsort(stable=True).tolist():  # the emptiest first: it sees most of it
        gaps = binary_closing(maps.covered[photo].cpu().numpy())
        hole = maps.usable[photo] & ~maps.covered[photo] & ~torch.from_numpy(gaps).to(maps.covered.device)
        if not hole.any() or not maps.covered[photo].any():
            continue
        inverse, confirmed = _completed(maps, photo, hole)
        clouds.append(_points(maps, photo, inverse, hole, confirmed))
        _pass_on(maps, photo, inverse, hole)
    return merge(clouds) if clouds else empty_cloud(capture.photos.device)


def with_background(capture: Capture, geometry: SceneGeometry) -> SceneGeometry:
    """The geometry with its `background_points`, from which generated views take depth where the cloud has none."""
    return replace(geometry, background=background_points(capture, geometry))


def room_of(capture: Capture, geometry: SceneGeometry) -> Tensor:
    """[K, 4] planes of the room around a scene (`fvgen.geometry.room`), in the capture's frame; none without points."""
    if not len(geometry.points):
        return capture.photos.new_zeros(0, 4)
    return _walls(CellMaps.of(capture, geometry), geometry)


def _walls(maps: CellMaps, geometry: SceneGeometry) -> Tensor:
    def cost(photo: int, cells: Tensor, inverse: Tensor) -> Tensor:
        return _disagreement(maps, photo, cells, inverse)

    return find_room(maps.far, maps.cameras, geometry.points.xyz, maps.usable & ~maps.covered, cost)


def _completed(maps: CellMaps, photo: int, hole: Tensor) -> tuple[Tensor, Tensor]:
    """[h, w] inverse depth of one photo, chosen in the cells of ``hole`` [h, w], and [h, w] bool: others confirm it."""
    far, covered = maps.far[photo], maps.covered[photo]
    known = covered | maps.anchored[photo]
    smooth = push_pull(maps.inverse[photo][None, None], known[None, None].to(far))[0, 0]
    away = torch.from_numpy(distance_transform_edt((~known).cpu().numpy())).to(far)
    blend = (away / (_REACH * max(far.shape))).clamp_max(1)
    prior = (1 - blend) * smooth + blend * far
    top = quantile(maps.inverse[photo][covered], 0.98)  # what is nearer would hide the scene from other cameras
    levels = torch.linspace(0, 1, _LEVELS, device=far.device, dtype=far.dtype)
    inverse = torch.cat([prior[..., None], far[..., None] + (top - far).clamp_min(0)[..., None] * levels], dim=-1)
    every = torch.arange(far.numel(), device=far.device)
    contradicted = _disagreement(maps, photo, every, inverse.flatten(0, 1)).view_as(inverse)
    contradicted = _mean_around(contradicted.permute(2, 0, 1), hole).permute(1, 2, 0)
    cost = contradicted + _UNEXPECTED * (inverse - prior[..., None]).abs() / (top - far.min()).clamp_min(1e-9)
    chosen = cost.argmin(dim=-1, keepdim=True)
    return inverse.gather(-1, chosen)[..., 0], contradicted.gather(-1, chosen)[..., 0] < _SILENT


def _mean_around(values: Tensor, where: Tensor) -> Tensor:
    """[C, h, w] means over 3 x 3 cells, of those ``where`` [h, w] is True."""
    weight = where.to(values)[None]
    total = functional.avg_pool2d(values * weight, 3, 1, 1)
    mean: Tensor = total / functional.avg_pool2d(weight, 3, 1, 1).clamp_min(1e-6)
    return mean


def _disagreement(maps: CellMaps, photo: int, cells: Tensor, inverse: Tensor) -> Tensor:
    """[N, L] in [0, 1]: how much the other photos contradict N cells of a photo [N] at inverse depths [N, L]."""
    height, width = maps.far.shape[1:]
    ones = torch.ones_like(maps.far[photo][None])
    rays = (unproject(ones, maps.cameras[photo])[0] - maps.cameras.positions[photo]).view(-1, 3)[cells]
    xyz = (maps.cameras.positions[photo] + rays[:, None] / inverse[..., None]).view(-1, 3)
    own = maps.colour[photo].flatten(1).T[cells][:, None]
    total, count = torch.zeros_like(inverse), torch.zeros_like(inverse)
    for other in range(len(maps.cameras)):
        if other == photo:
            continue
        uv, z = project(xyz, maps.cameras[other])
        inside, index = cells_of(uv[0], z[0], height, width)
        place = torch.zeros_like(inside, dtype=torch.long).masked_scatter_(inside, index)
        ratio = (z[0] * maps.inverse[other].flatten()[place]).view_as(inverse)
        known = (inside & maps.covered[other].flatten()[place]).view_as(inverse)
        says = (inside & maps.usable[other].flatten()[place]).view_as(inverse)
        grid = (uv[0] / uv.new_tensor([width, height]) * 2 - 1).view(1, *inverse.shape, 2)
        theirs = functional.grid_sample(maps.colour[other][None], grid, align_corners=False, padding_mode="border")[0]
        differs = ((theirs.permute(1, 2, 0) - own).abs().mean(dim=-1) / _COLOUR).clamp_max(1)
        says &= ~(known & (ratio > 1 / _THROUGH))  # hidden there
        total += torch.where(known & (ratio < _THROUGH), 1.0, differs) * says
        count += says
    return torch.where(count > 0, total / count.clamp_min(1), _SILENT)


def _points(maps: CellMaps, photo: int, inverse: Tensor, hole: Tensor, confirmed: Tensor) -> PointCloud:
    """One point in the middle of each empty cell, several where it shows detail; none in a camera's near field, but for
    those on walls, which hide nothing."""
    detail = hole & maps.detail[photo]
    wall = maps.is_wall[photo] & ((inverse / maps.far[photo] - 1).abs() < _ON_WALL)
    clouds = []
    for fine, wanted in ((1, hole & ~detail), (_FINE, detail & ~wall), (_FINE_ON_WALL, detail & wall)):
        cameras = maps.cameras[photo].resized(fine * inverse.shape[0], fine * inverse.shape[1])
        each = (1 / inverse, wanted, wall, confirmed)
        depth, chosen, on_wall, certain = (m.repeat_interleave(fine, 0).repeat_interleave(fine, 1) for m in each)
        colours = functional.adaptive_avg_pool2d(maps.photos[photo], (chosen.shape[0], chosen.shape[1])).permute(
            1, 2, 0
        )
        xyz = unproject(depth[None], cameras)[0][chosen]
        distance = torch.cdist(xyz.double(), maps.cameras.positions.double())
        kept = (distance > maps.near).all(dim=1) | on_wall[chosen]
        cloud = PointCloud(xyz, colours[chosen], (certain | on_wall)[chosen].to(xyz))
        clouds.append(cloud[kept])
    return merge(clouds)


def _pass_on(maps: CellMaps, photo: int, inverse: Tensor, hole: Tensor) -> None:
    """Cells of the other photos that see the completed ones, in the same colour, are covered from now on."""
    xyz = unproject(1 / inverse[None], maps.cameras[photo])[0][hole]
    rgb = maps.colour[photo].permute(1, 2, 0)[hole]
    height, width = inverse.shape
    for other in range(len(maps.cameras)):
        if other == photo:
            continue
        uv, z = project(xyz, maps.cameras[other])
        inside, index = cells_of(uv[0], z[0], height, width)
        same = (maps.colour[other].flatten(1)[:, index].T - rgb[inside]).abs().mean(dim=1) < _SAME_COLOUR
        drawn = torch.zeros_like(inverse).flatten().scatter_reduce_(0, index[same], 1 / z[0][inside][same], "amax")
        drawn = drawn.view_as(inverse)
        count = 9 * functional.avg_pool2d((drawn > 0).to(drawn)[None], 3, 1, 1)[0]
        mean = 9 * functional.avg_pool2d(drawn[None], 3, 1, 1)[0] / count.clamp_min(1)
        new = ~maps.covered[other] & ((drawn > 0) | (count >= 5))  # their cells do not fall on these one by one
        maps.inverse[other] = torch.where(new, torch.where(drawn > 0, drawn, mean), maps.inverse[other])
        maps.covered[other] |= new
