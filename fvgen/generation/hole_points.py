"""Points where the cloud is empty, at the depth that a generator has filled in."""

from __future__ import annotations

import torch

from fvgen.geometry.cameras import unproject
from fvgen.geometry.points import voxel_thin
from fvgen.types import GeneratedViews, PointCloud


def hole_points(views: GeneratedViews, stride: int = 2) -> PointCloud:
    """Points of the pixels that the cloud left empty, from the generated views' own depth.

    Such depth is a guess: on some captures Gaussians that start there help by decibels, and on most they hurt, because
    photos alone memorise what starts in mid-air. So they are tried first (`fvgen.generation.trials`).

    Args:
        views: F frames of which generated ones are used.
        stride: take every n-th pixel in x and y.
    """
    where = (~views.covered & (views.depth > 0) & ~views.is_photo[:, None, None, None])[:, 0]
    grid = torch.zeros_like(where)
    grid[:, ::stride, ::stride] = True
    where &= grid
    xyz = unproject(views.depth[:, 0], views.cameras)[where]
    rgb = views.rgb.permute(0, 2, 3, 1)[where]
    points = PointCloud(xyz, rgb, views.pixel_confidence[:, 0][where])
    if not len(points):
        return points
    footprint = (views.depth[:, 0] / views.cameras.K[:, 0, 0, None, None])[where].median()
    return voxel_thin(points, 2 * stride * float(footprint))
