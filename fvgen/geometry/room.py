"""The room that a scene stands in: floor, table, lawn, wall, each a plane in front of the sphere that is far away.

Such surfaces are smooth, so that matching finds nothing of them pixel by pixel; all of one together agree at one place
only. Planes of all orientations are swept (Gallup et al., CVPR 2007), each over all empty cells of all photos at once.
The room is convex: all cameras and nearly all points lie within, so that no wall hides anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fvgen.geometry.cameras import unproject
from fvgen.types import Cameras

Cost = Callable[[int, Tensor, Tensor], Tensor]
"""Photo, N of its cells, their inverse depths [N, L] -> how much the other photos contradict each, [N, L] in [0, 1]."""

MOST_PLANES = 4
_DIRECTIONS = 160
"""Orientations that are tried first, evenly spread over the sphere."""
_DISTANCES = (0.0, *torch.linspace(-4.5, 1.0, 25).exp().tolist())
"""Distances beyond cameras and points that are tried first, in typical depths of the scene."""
_REFINED = 6
"""Planes of the first search that a finer one goes on from: the best of a coarse grid is often not the best."""
_STEPS = ((0.14, 0.2), (0.05, 0.07))
"""Reach of each finer search: radians to each side, and share of the distance."""
_OUTSIDE = 0.05
"""Most of the points that may lie behind a plane: some of a cloud are always wrong."""
_CLEARANCE = 0.02
"""Least distance of a camera from a plane, in typical depths of the scene."""
_PHOTOS = 6
"""Photos whose empty cells are looked at, evenly spread; each is compared with all others."""
_CELLS, _COMPARISONS = 120, 3600
"""Most empty cells of a photo that are looked at; fewer where they would be compared more often than that in all."""
_POINTS = 20_000
"""Points that are looked at."""
_GAIN = 0.03
"""Mean cost per cell by which a plane must be better than what lies behind it, where it is seen."""
_TOTAL_GAIN = 0.002
"""The same per cell of all, seen or not."""


def find_room(far: Tensor, cameras: Cameras, xyz: Tensor, holes: Tensor, cost: Cost) -> Tensor:
    """The planes that the photos agree on, best first; one after another as long as they pay.

    Args:
        far: [V, h, w] inverse depth of what lies behind everything.
        cameras: V cameras for pictures of h x w cells.
        xyz: [P, 3] points of the scene.
        holes: [V, h, w] bool: cells whose depth is not known.
        cost: of inverse depths.

    Returns:
        [K, 4] planes n x = d as (n, d), n the unit normal that points inwards; K from 0 to `MOST_PLANES`.
    """
    found = far.new_zeros(0, 4)
    photos = torch.linspace(0, len(cameras) - 1, min(_PHOTOS, len(cameras))).round().long().tolist()
    cells = [_Cells.of(photo, far, cameras, holes, cost) for photo in photos if holes[photo].any()]
    if not cells:
        return found
    space = _Space.of(cameras, xyz.to(far))
    first = space.beyond(_directions().to(far), far.new_tensor(_DISTANCES))
    first_costs = [c.costs(first) for c in cells]
    seen = sum(len(c.behind) for c in cells)
    while len(found) < MOST_PLANES:
        gain, _ = _gains(cells, first_costs)
        best = [_refined(plane, cells, space) for plane in first[gain.topk(_REFINED).indices]]
        total, count, plane = max(best, key=lambda one: one[0])
        if total <= _GAIN * count or total <= _TOTAL_GAIN * seen:
            break
        found = torch.cat([found, plane[None]])
        cells = [c.before(plane[None]) for c in cells]
    return found


def room_inverse_depth(planes: Tensor, far: Tensor, cameras: Cameras) -> Tensor:
    """[V, h, w] inverse depth of the nearest plane [K, 4] in V pictures, or of what lies behind, ``far`` [V, h, w]."""
    seen = [_inverse(planes, _rays(cameras[i]), cameras.positions[i]) for i in range(len(cameras))]
    nearest = torch.stack([torch.cat([far[i].view(-1, 1), s.to(far)], dim=1).amax(dim=1) for i, s in enumerate(seen)])
    return nearest.view_as(far)


@dataclass(frozen=True)
class _Cells:
    """N empty cells of a photo."""

    photo: int
    index: Tensor
    """[N] places in the picture"""
    rays: Tensor
    """[N, 3] of unit depth"""
    origin: Tensor
    """[3]"""
    behind: Tensor
    """[N] inverse depth of what lies behind"""
    cost: Cost

    @classmethod
    def of(cls, photo: int, far: Tensor, cameras: Cameras, holes: Tensor, cost: Cost) -> _Cells:
        every = holes[photo].flatten().nonzero()[:, 0]
        most = min(_CELLS, max(_COMPARISONS // (_PHOTOS * max(len(cameras) - 1, 1)), 1))
        index = every[:: max(len(every) // most, 1)]
        rays = _rays(cameras[photo])[index].to(far)
        return cls(photo, index, rays, cameras.positions[photo].to(far), far[photo].flatten()[index], cost)

    def costs(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """[N, L] inverse depths of L planes, and their costs."""
        inverse = _inverse(planes, self.rays, self.origin)
        return inverse, self.cost(self.photo, self.index, inverse.maximum(self.behind[:, None]))

    def before(self, planes: Tensor) -> _Cells:
        """The same with planes in front of what lies behind."""
        nearest = _inverse(planes, self.rays, self.origin).amax(dim=1).maximum(self.behind)
        return _Cells(self.photo, self.index, self.rays, self.origin, nearest, self.cost)


def _gains(cells: list[_Cells], costs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """[L] cost that each of L planes saves, and the number of cells where it is seen."""
    gain, count = costs[0][0].new_zeros(2, costs[0][0].shape[1])
    for c, (inverse, cost) in zip(cells, costs, strict=True):
        nearer = inverse > c.behind[:, None]
        gain = gain + ((c.cost(c.photo, c.index, c.behind[:, None]) - cost) * nearer).sum(dim=0)
        count = count + nearer.sum(dim=0)
    return gain, count


def _refined(plane: Tensor, cells: list[_Cells], space: _Space) -> tuple[float, float, Tensor]:
    """The best plane near ``plane`` [4]: cost that it saves, cells where it is seen, and the plane."""
    gain, count = _gains(cells, [c.costs(plane[None]) for c in cells])
    best = float(gain[0]), float(count[0]), plane
    for angle, share in _STEPS:
        near = space.around(best[2], angle, share)
        gain, count = _gains(cells, [c.costs(near) for c in cells])
        at = int(gain.argmax())
        best = max(best, (float(gain[at]), float(count[at]), near[at]), key=lambda one: one[0])
    return best


@dataclass(frozen=True)
class _Space:
    """What every room must hold."""

    positions: Tensor
    """[V, 3] of the cameras"""
    xyz: Tensor
    """[P, 3] points"""
    depth: Tensor
    """Typical depth of the scene."""

    @classmethod
    def of(cls, cameras: Cameras, xyz: Tensor) -> _Space:
        xyz = xyz[:: max(len(xyz) // _POINTS, 1)]
        positions = cameras.positions.to(xyz)
        return cls(positions, xyz, (xyz - positions.mean(dim=0)).norm(dim=1).median())

    def nearest(self, normals: Tensor) -> Tensor:
        """[D] largest offset d of a plane with each of D normals [D, 3] that leaves cameras and points inside."""
        lowest = (self.xyz @ normals.T).kthvalue(max(int(_OUTSIDE * len(self.xyz)), 1), dim=0).values
        return lowest.minimum((self.positions @ normals.T).amin(dim=0) - _CLEARANCE * self.depth)

    def beyond(self, normals: Tensor, distances: Tensor) -> Tensor:
        """[D * L, 4] planes with each of D normals at L distances [L] beyond the nearest, in typical depths."""
        offsets = self.nearest(normals)[:, None] - distances * self.depth
        return torch.cat([normals[:, None].expand(-1, len(distances), 3), offsets[..., None]], dim=-1).view(-1, 4)

    def around(self, plane: Tensor, angle: float, share: float) -> Tensor:
        """[L, 4] planes like one [4], tilted by up to ``angle`` and shifted by a share of the cameras' distance."""
        normal, centre = plane[:3], self.positions.mean(dim=0)
        across = torch.linalg.cross(normal, torch.eye(3).to(normal)[normal.abs().argmin()])
        across, along = normalize(across, dim=0), normalize(torch.linalg.cross(normal, across), dim=0)
        tilt = torch.linspace(-angle, angle, 5).to(normal)
        normals = normal + tilt[:, None, None] * across + tilt[None, :, None] * along
        normals = normalize(normals.view(-1, 3), dim=1)
        distances = (centre @ normal - plane[3]) * torch.linspace(-share, share, 7).to(normal).exp()
        offsets = ((normals @ centre)[:, None] - distances).minimum(self.nearest(normals)[:, None])
        return torch.cat([normals[:, None].expand(-1, len(distances), 3), offsets[..., None]], dim=-1).view(-1, 4)


def _directions() -> Tensor:
    """[D, 3] unit vectors, evenly spread (Fibonacci's lattice)."""
    i = torch.arange(_DIRECTIONS) + 0.5
    z, turn = 1 - 2 * i / _DIRECTIONS, math.pi * (1 + math.sqrt(5)) * i
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * turn.cos(), radius * turn.sin(), z], dim=1)


def _rays(camera: Cameras) -> Tensor:
    """[h * w, 3] rays of unit depth of a batch of one."""
    ones = camera.K.new_ones(1, camera.height, camera.width)
    rays: Tensor = unproject(ones, camera)[0] - camera.positions[0]
    return rays.view(-1, 3)


def _inverse(planes: Tensor, rays: Tensor, origin: Tensor) -> Tensor:
    """[N, L] inverse depths at which N rays [N, 3] meet L planes [L, 4]; not positive where they do not."""
    normal, offset = planes[:, :3].to(rays), planes[:, 3].to(rays)
    return (rays @ normal.T) / (offset - normal @ origin.to(rays))
