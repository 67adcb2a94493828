"""What makes depth reliable: agreement between views, no speckles, nothing that hangs between two surfaces."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project, unproject
from fvgen.types import Cameras


def _meet(world: Tensor, depth: Tensor, cameras: Cameras, j: int) -> tuple[Tensor, Tensor]:
    """Depth at which camera ``j`` sees points, and the depth its own map holds there.

    Args:
        world: [P, 3].
        depth: [H, W] of camera ``j``.

    Returns:
        reach [P] and found [P]; found is 0 where the map knows nothing or the point is out of view.
    """
    places, reach = project(world, cameras[j])
    place, reach = places[0], reach[0]
    size = torch.tensor([cameras.width, cameras.height], device=depth.device)
    inside = (reach > 0) & (place >= 0).all(dim=1) & (place < size).all(dim=1)
    pixel = torch.where(inside[:, None], place, 0.0).long()
    return reach, depth[pixel[:, 1], pixel[:, 0]] * inside


def agreeing_views(
    depths: Tensor, cameras: Cameras, pixels: float, relative: float, neighbours: list[list[int]] | None = None
) -> tuple[Tensor, Tensor]:
    """How many other views confirm each depth, and the mean over all that agree.

    A pixel is carried into the other view, onto the surface found there along the same ray, and back; it is confirmed
    when it returns within ``pixels`` and its depth differs by less than the fraction ``relative`` (Schönberger et al.,
    "Pixelwise View Selection for Unstructured Multi-View Stereo", ECCV 2016, section 4.3).

    Args:
        depths: [V, H, W], 0 where unknown.
        cameras: V cameras.
        neighbours: for each view the others with which it was compared; only these can confirm. All without it.

    Returns:
        count [V, H, W] int64, and the mean [V, H, W] of each depth and those that confirm it.
    """
    world = unproject(depths, cameras).flatten(1, 2)
    total = depths.flatten(1).clone()
    count = torch.zeros_like(total, dtype=torch.int64)
    for i in range(len(depths)):
        depth = depths[i].flatten()
        own = project(world[i], cameras[i])[0][0]
        for j in range(len(depths)):
            if j == i or not (neighbours is None or j in neighbours[i] or i in neighbours[j]):
                continue
            reach, found = _meet(world[i], depths[j], cameras, j)
            centre = cameras.positions[j]
            surface = centre + (world[i] - centre) * (found / torch.where(found > 0, reach, 1.0))[:, None]
            back, z = project(surface, cameras[i])
            near = ((back[0] - own).norm(dim=1) < pixels) & ((z[0] - depth).abs() < relative * depth)
            agrees = near & (found > 0) & (depth > 0)
            count[i] += agrees
            total[i] += torch.where(agrees, z[0], 0.0)
    return count.reshape(depths.shape), (total / (count + 1)).reshape(depths.shape)


def seen_through(depths: Tensor, cameras: Cameras, relative: float) -> Tensor:
    """How many other views look through each depth at a surface farther away.

    Args:
        depths: [V, H, W], 0 where unknown.
        cameras: V cameras.
        relative: fraction of the depth by which that surface must be farther.

    Returns:
        [V, H, W] int64.
    """
    world = unproject(depths, cameras).flatten(1, 2)
    count = torch.zeros(depths.shape, dtype=torch.int64, device=depths.device).flatten(1)
    for i in range(len(depths)):
        for j in range(len(depths)):
            if j != i:
                reach, found = _meet(world[i], depths[j], cameras, j)
                count[i] += (found > reach * (1 + relative)) & (depths[i].flatten() > 0)
    return count.reshape(depths.shape)


def without_speckles(depths: Tensor, smallest: int, step: float) -> Tensor:
    """Depth without patches of fewer than ``smallest`` pixels.

    Neighbouring pixels belong to one patch when their depths differ by less than the fraction ``step``.

    Args:
        depths: [V, H, W], 0 where unknown.
    """
    import cv2

    # log depth in units of `step` / 16, in the 16 bits that OpenCV's filter takes; 0 is kept for "unknown"
    kept = torch.zeros_like(depths, dtype=torch.bool)
    for i, depth in enumerate(depths):
        known = depth > 0
        if not bool(known.any()):
            continue
        log = torch.log(depth.clamp_min(1e-12)) / step * 16
        log = (log - log[known].min() + 1000).clamp_max(32000) * known
        patches = log.round().to(torch.int16).cpu().numpy().copy()
        cv2.filterSpeckles(patches, 0, smallest, 16)
        kept[i] = torch.from_numpy(patches > 0).to(depths.device)
    return depths * kept


def without_flying_pixels(depths: Tensor, jump: float) -> Tensor:
    """Depth without pixels that hang between two surfaces, as sensors give where a pixel sees both.

    A pixel is dropped when its 3x3 neighbourhood holds depth both nearer and farther by more than the fraction
    ``jump``.

    Args:
        depths: [V, H, W], 0 where unknown.
    """
    known = depths > 0
    farthest = functional.max_pool2d(depths[:, None], 3, stride=1, padding=1)[:, 0]
    hidden = torch.where(known, -depths, torch.full_like(depths, -torch.inf))
    nearest = -functional.max_pool2d(hidden[:, None], 3, stride=1, padding=1)[:, 0]
    between = (farthest > depths * (1 + jump)) & (nearest < depths * (1 - jump))
    return depths * ~between


def with_gaps_closed(depths: Tensor, jump: float, passes: int = 1, least_known: int = 3) -> Tensor:
    """Depth with small gaps within smooth surfaces filled.

    Each pass fills a pixel whose 3x3 neighbourhood has at least ``least_known`` depths that span less than the fraction
    ``jump`` and that lie on opposite sides of it, by their mean in inverse depth (planes are linear there).

    Args:
        depths: [V, H, W], 0 where unknown.
    """
    for _ in range(passes):
        known = depths > 0
        inverse = torch.where(known, 1 / torch.where(known, depths, 1.0), 0.0)
        around = functional.unfold(inverse[:, None], 3, padding=1).unflatten(2, depths.shape[1:])  # [V, 9, H, W]
        count = (around > 0).sum(dim=1)
        # pixels k and 8 - k lie opposite each other
        between = ((around[:, :4] > 0) & (around[:, 5:].flip(1) > 0)).any(dim=1)
        nearest = around.amax(dim=1)
        farthest = torch.where(around > 0, around, torch.inf).amin(dim=1)
        smooth = nearest < farthest * (1 + jump)
        fill = ~known & between & smooth & (count >= least_known)
        depths = torch.where(fill, count / around.sum(dim=1).clamp_min(1e-12), depths)
    return depths
