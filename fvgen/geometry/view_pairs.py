"""Which photos are compared with which, and over which depths."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.geometry.cameras import project, unproject
from fvgen.types import Cameras

_LEAST_OVERLAP = 0.1
"""Two photos of which less than this part shows the same are not compared."""
_NARROW, _WIDE = 2.0, 30.0
"""Degrees between viewing rays: below, depth is uncertain; above, surfaces look different."""
_QUANTILES = (0.01, 0.99)
"""Quantiles of the sparse points' depths that bound the range: a few of the points are always wrong."""
_NEARER, _FARTHER = 0.8, 1.3
"""Margins beyond these quantiles, as factors."""
_LEAST_SHARED = 0.3
"""Part of a view that another camera must see too for a depth to be tried."""
_FEWEST_POINTS = 30
"""With fewer sparse points in a view, their depths say too little about its range."""


def points_in_view(xyz: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Which points [P, 3] fall into which image: bool [C, P], and their depth [C, P]."""
    uv, z = project(xyz, cameras)
    size = torch.tensor([cameras.width, cameras.height], device=uv.device)
    return (z > 0) & (uv >= 0).all(dim=-1) & (uv < size).all(dim=-1), z


def choose_neighbours(cameras: Cameras, xyz: Tensor, most: int, widest: float) -> list[list[int]]:
    """For each camera the others that see the same points [P, 3] from a useful angle, best first.

    At most ``most``, and none from more than ``widest`` degrees aside where there is another.
    """
    seen, _ = points_in_view(xyz, cameras)
    chosen: list[list[int]] = []
    for i in range(len(cameras)):
        mine = xyz[seen[i]]
        scores = []
        for j in range(len(cameras)):
            both = seen[j][seen[i]]
            overlap = float(both.float().mean()) if len(mine) else 0.0
            if j == i or overlap < _LEAST_OVERLAP:
                continue
            ray_i, ray_j = mine[both] - cameras.positions[i], mine[both] - cameras.positions[j]
            cosine = torch.nn.functional.cosine_similarity(ray_i, ray_j, dim=1).clamp(-1, 1)
            angle = float(torch.rad2deg(torch.acos(cosine)).median())
            if angle > 0:
                scores.append((overlap * min(angle / _NARROW, 1.0, _WIDE / angle), j, angle))
        scores = sorted(scores, reverse=True)[:most]
        chosen.append([j for _, j, angle in scores if angle <= widest] or [j for _, j, _ in scores[:1]])
    return chosen


def ranges_from_points(cameras: Cameras, xyz: Tensor) -> list[tuple[float, float] | None]:
    """Nearest and farthest depth for each camera with a margin, or None where too few points are in view."""
    seen, z = points_in_view(xyz, cameras)
    ranges: list[tuple[float, float] | None] = []
    for i in range(len(cameras)):
        depth = z[i][seen[i]].double()
        if len(depth) < _FEWEST_POINTS:
            ranges.append(None)
            continue
        near, far = torch.quantile(depth, torch.tensor(_QUANTILES, dtype=torch.float64, device=depth.device))
        ranges.append((_NEARER * float(near), _FARTHER * float(far)))
    return ranges


def common_volume(cameras: Cameras, grid: int = 12, steps: int = 96) -> tuple[list[tuple[float, float] | None], Tensor]:
    """Depth ranges from the cameras alone: where a good part of each view lies in another camera's view too.

    Returns:
        for each camera the nearest and farthest such depth (None where no other camera shares its view), and the
        sampled points [P, 3] of these volumes, which stand in for scene points when neighbours are chosen.
    """
    mode = "donot_use_mm_for_euclid_dist"  # exact for cameras far from the origin
    distance = torch.cdist(cameras.positions, cameras.positions, compute_mode=mode)
    rows = torch.linspace(0, cameras.height - 1, grid).long()
    columns = torch.linspace(0, cameras.width - 1, grid).long()
    ranges: list[tuple[float, float] | None] = []
    samples = []
    for i in range(len(cameras)):
        others = [j for j in range(len(cameras)) if j != i]
        apart = distance[i][others]
        baseline = float(apart[apart > 0].median()) if bool((apart > 0).any()) else 0.0
        if baseline == 0:
            ranges.append(None)
            continue
        depths = baseline * torch.logspace(-0.7, 2.3, steps, device=distance.device)
        rays = unproject(torch.ones(1, cameras.height, cameras.width, device=distance.device), cameras[i])[0]
        rays = (rays[rows][:, columns] - cameras.positions[i]).reshape(-1, 3)
        points = cameras.positions[i] + rays * depths[:, None, None]
        seen, _ = points_in_view(points.reshape(-1, 3), cameras[others])
        share = seen.reshape(len(others), steps, -1).float().mean(dim=2).amax(dim=0)
        shared = torch.nonzero(share >= _LEAST_SHARED)[:, 0]
        if len(shared) == 0:
            ranges.append(None)
            continue
        ranges.append((float(depths[shared[0]]), float(depths[shared[-1]])))
        samples.append(points[shared].reshape(-1, 3))
    return ranges, torch.cat(samples) if samples else torch.zeros(0, 3, device=distance.device)


@dataclass(frozen=True)
class ViewPairs:
    """For each camera its neighbours and its range of depth; none and None where no other camera shares its view."""

    neighbours: list[list[int]]
    ranges: list[tuple[float, float] | None]

    @property
    def complete(self) -> bool:
        """Whether every camera has neighbours and a range."""
        return all(self.neighbours) and None not in self.ranges


def pairs_from_points(cameras: Cameras, xyz: Tensor, most: int, widest: float = 180.0) -> ViewPairs:
    """From scene points [P, 3]; ``most`` and ``widest`` as `choose_neighbours` has them."""
    return ViewPairs(choose_neighbours(cameras, xyz, most, widest), ranges_from_points(cameras, xyz))


def pairs_from_cameras(cameras: Cameras, most: int, widest: float = 180.0) -> ViewPairs:
    """From the cameras alone; ``most`` and ``widest`` as `choose_neighbours` has them."""
    ranges, samples = common_volume(cameras)
    return ViewPairs(choose_neighbours(cameras, samples, most, widest), ranges)
