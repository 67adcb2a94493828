"""Coloured points: from depth maps, thinned by voxels, merged, and as PLY files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.files import whole_file
from fvgen.geometry.cameras import unproject
from fvgen.types import Cameras, PointCloud

_GREY = 0.5
"""Colour of points whose file has none."""


def depth_to_points(photos: Tensor, cameras: Cameras, depths: Tensor, confidences: Tensor) -> PointCloud:
    """One point for each pixel of known depth.

    Args:
        photos: [V, 3, H, W] in [0, 1].
        cameras: V cameras.
        depths: [V, H, W]; 0 gives no point.
        confidences: [V, H, W] in [0, 1].

    Returns:
        The points, photo by photo and row by row.
    """
    known = depths > 0
    return PointCloud(
        xyz=unproject(depths, cameras)[known],
        rgb=photos.permute(0, 2, 3, 1)[known],
        confidence=confidences[known],
    )


def empty_cloud(device: torch.device | str = "cpu") -> PointCloud:
    """A cloud without points."""
    return PointCloud(torch.zeros(0, 3, device=device), torch.zeros(0, 3, device=device), torch.zeros(0, device=device))


def merge(clouds: Sequence[PointCloud]) -> PointCloud:
    """All points of all clouds; no clouds give an empty one."""
    if not clouds:
        return empty_cloud()
    return PointCloud(
        xyz=torch.cat([cloud.xyz for cloud in clouds]),
        rgb=torch.cat([cloud.rgb for cloud in clouds]),
        confidence=torch.cat([cloud.confidence for cloud in clouds]),
    )


def voxel_thin(cloud: PointCloud, size: float) -> PointCloud:
    """At most one point in each cube of side ``size`` on a fixed grid.

    Position and colour are means weighted by confidence; the confidence is the largest. Thinning twice with one size
    changes nothing more, because a mean stays within its cube.

    Raises:
        InputError: ``size`` is not positive, or so small that the grid cannot be numbered.
    """
    require(size > 0, "size", "be positive", size, "Give the side of a voxel in scene units.")
    if len(cloud) == 0:
        return cloud
    cell = torch.floor(cloud.xyz.double() / size)
    cell = cell - cell.amin(dim=0)
    span = cell.amax(dim=0) + 1
    require(float(span.prod()) < 2**62, "size", "not be tiny beside the cloud", size, "Choose larger voxels.")
    cell, span = cell.long(), span.long()
    key = (cell[:, 0] * span[1] + cell[:, 1]) * span[2] + cell[:, 2]
    _, voxel = torch.unique(key, return_inverse=True)
    count = int(voxel.max()) + 1
    # double: a float32 mean may be rounded across the border of its cube
    weight = cloud.confidence.double().clamp_min(1e-6)
    total = torch.zeros(count, dtype=torch.float64, device=weight.device).index_add_(0, voxel, weight)

    def mean(values: Tensor) -> Tensor:
        summed = torch.zeros(count, values.shape[1], dtype=torch.float64, device=weight.device)
        summed.index_add_(0, voxel, values.double() * weight[:, None])
        return (summed / total[:, None]).to(values.dtype)

    confidence = torch.zeros(count, dtype=cloud.confidence.dtype, device=weight.device)
    confidence = confidence.scatter_reduce(0, voxel, cloud.confidence, "amax")
    return PointCloud(mean(cloud.xyz), mean(cloud.rgb), confidence)


def read_ply(path: str | Path, dtype: torch.dtype = torch.float32, *, finite: bool = True) -> PointCloud:
    """Points of a PLY file, ASCII or binary, as Nerfstudio and COLMAP write them (x y z red green blue).

    Points without colour become grey; all get confidence 1. A file with no points gives an empty cloud.

    Args:
        path: the file.
        dtype: of the positions; float64 for those that are moved near the origin before anything else.
        finite: whether positions that are not finite are refused.

    Raises:
        InputError: no such file, not a PLY, cut short, without x y z, or with positions that are not finite.
    """
    from plyfile import PlyData, PlyParseError

    path = Path(path)
    require(path.is_file(), str(path), "be a PLY file", "no such file", "Check the path.")
    again = "Export the point cloud again, or take the file out of the capture."
    try:
        elements = {element.name: element for element in PlyData.read(str(path))}
    except (PlyParseError, ValueError, EOFError, UnicodeDecodeError, MemoryError) as error:
        raise InputError(complaint(str(path), "be a complete PLY file", f"'{error}'", again)) from error
    vertex = elements["vertex"].data if "vertex" in elements else np.empty(0, dtype=[])
    names = vertex.dtype.names or ()
    require({"x", "y", "z"} <= set(names), str(path), "have vertices with x, y and z", names or "no vertices", again)
    if len(vertex) == 0:
        return empty_cloud()
    try:
        xyz = np.stack([np.asarray(vertex[name], dtype=np.float64) for name in ("x", "y", "z")], axis=1)
    except (TypeError, ValueError) as error:  # lists instead of numbers
        raise InputError(complaint(str(path), "have one x, y and z a point", f"'{error}'", again)) from error
    with np.errstate(over="ignore"):
        bad = int((~np.isfinite(xyz.astype(np.float32))).any(axis=1).sum())
    require(
        bad == 0 or not finite,
        str(path),
        "have finite positions only",
        f"{bad} of {len(xyz)} points that are not",
        again,
    )
    if {"red", "green", "blue"} <= set(names):
        rgb = np.stack([_unit_colour(np.asarray(vertex[name])) for name in ("red", "green", "blue")], axis=1)
    else:
        rgb = np.full(xyz.shape, _GREY, dtype=np.float32)
    return PointCloud(torch.from_numpy(xyz).to(dtype), torch.from_numpy(rgb), torch.ones(len(xyz)))


def _unit_colour(values: NDArray[Any]) -> NDArray[Any]:
    """Colours [P] as float32 in [0, 1]: whole numbers are scaled by their type's largest value."""
    if np.issubdtype(values.dtype, np.integer):
        return (values.astype(np.float32) / np.iinfo(values.dtype).max).clip(0, 1)
    return np.nan_to_num(values.astype(np.float32)).clip(0, 1)


def write_ply(path: Path, cloud: PointCloud) -> None:
    """Write a binary PLY with x y z and uint8 red green blue; whole or not at all.

    Positions are float32, as most tools want them; those given in float64 stay so where float32 would move them by a
    ten-thousandth of the cloud's size, as it does with map coordinates.

    Raises:
        InputError: the cloud has positions that are not finite.
        OSError: the folder cannot be written.
    """
    from plyfile import PlyData, PlyElement

    xyz = _narrowed(cloud.xyz.detach().cpu().numpy())
    require(
        bool(np.isfinite(xyz).all()), "cloud", "have finite positions only", "some that are not", "Filter it first."
    )
    rgb = (cloud.rgb.detach().cpu().numpy().clip(0, 1) * 255).round().astype(np.uint8)
    fields = [*((name, xyz.dtype) for name in "xyz"), *((name, np.uint8) for name in ("red", "green", "blue"))]
    vertices = np.empty(len(xyz), dtype=fields)
    for column, name in enumerate(("x", "y", "z")):
        vertices[name] = xyz[:, column]
    for column, name in enumerate(("red", "green", "blue")):
        vertices[name] = rgb[:, column]
    with whole_file(path) as unfinished:
        PlyData([PlyElement.describe(vertices, "vertex")], byte_order="<").write(str(unfinished))


def _narrowed(xyz: NDArray[Any]) -> NDArray[Any]:
    """Positions [P, 3] as float32 where that keeps them apart, see `write_ply`."""
    narrow = xyz.astype(np.float32)
    size = float(np.ptp(xyz, axis=0).max()) if len(xyz) else 0.0
    moved = float(np.abs(xyz - narrow).max()) if len(xyz) else 0.0
    return xyz if moved > 1e-4 * size else narrow
