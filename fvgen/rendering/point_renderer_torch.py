"""Point rendering in plain torch, on any device; on the CPU compiled loops stand in for it where no gradient is needed.

`rasterize_points` finds the nearest discs of every pixel; `TeacherCompositing` and `FrontMean` turn them into pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.rendering.point_renderer import TEACHER_RADIUS, check_radius, empty_render, pixel_radius
from fvgen.types import Cameras, PointCloud, PointRender

_CANDIDATES = 1 << 22
"""Most (point, pixel) pairs looked at in one go: bounds memory to about 200 MB beside the result."""


@dataclass(frozen=True)
class Fragments:
    """The nearest discs over each pixel of one picture, nearest first."""

    index: Tensor
    """[H, W, K] int64 point index, -1 where there are fewer"""
    z: Tensor
    """[H, W, K] depth of the point, 0 where there is none"""
    share: Tensor
    """[H, W, K] squared distance from pixel centre to point over the squared radius, in [0, 1); 0 where none"""


def rasterize_points(xyz: Tensor, camera: Cameras, radius: float, per_pixel: int) -> Fragments:
    """The ``per_pixel`` nearest discs over each pixel centre; the semantics of PyTorch3D's ``rasterize_points``.

    A disc covers a pixel whose centre is less than ``radius`` (NDC) from the projected point. Points are taken front
    to back in groups, so memory does not grow with the cloud.

    Args:
        xyz: [P, 3] in the world.
        camera: one camera.
        radius: in NDC.
        per_pixel: K.
    """
    height, width = camera.height, camera.width
    uv, z = _project(xyz, camera)
    reach = pixel_radius(radius, height, width)
    low, high = -reach, torch.tensor([width, height], device=xyz.device) + reach
    seen = ((z > 0) & (uv > low).all(1) & (uv < high).all(1)).nonzero()[:, 0]
    seen = seen[z[seen].argsort(stable=True)]  # equal depths stay in the cloud's order, as in PyTorch3D
    uv, z = uv[seen], z[seen]
    pixels = height * width
    index = torch.full((pixels * per_pixel,), -1, dtype=torch.int64, device=xyz.device)
    z_out = torch.zeros(pixels * per_pixel, device=xyz.device)
    share = torch.zeros(pixels * per_pixel, device=xyz.device)
    filled = torch.zeros(pixels, dtype=torch.int64, device=xyz.device)
    for group in torch.arange(len(seen), device=xyz.device).split(max(_CANDIDATES // _window(reach) ** 2, 1)):
        point, pixel, d2 = _covered(uv[group], reach, height, width)
        open_yet = filled[pixel] < per_pixel
        point, pixel, d2 = point[open_yet], pixel[open_yet], d2[open_yet]
        pixel, by_pixel = pixel.sort(stable=True)  # points came front to back and stay so within a pixel
        slot = filled[pixel] + _rank(pixel)
        keep = slot < per_pixel
        place = (pixel * per_pixel + slot)[keep]
        point = group[point[by_pixel][keep]]
        index[place], z_out[place], share[place] = seen[point], z[point], d2[by_pixel][keep]
        filled += torch.bincount(pixel[keep], minlength=pixels)
    shape = (height, width, per_pixel)
    return Fragments(index.view(shape), z_out.view(shape), share.view(shape))


def _project(xyz: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
    """Pixel positions [P, 2] float64 and depths [P] float32 of xyz [P, 3], rounded where PyTorch3D's pipeline rounds.

    The pose is inverted in its own dtype and depth is summed in float32 in PyTorch3D's order, so that near ties sort as
    they do there; the position is float64, because a disc may be so small that float32 shows in its alpha.
    """
    w2c = torch.linalg.inv(camera.c2w[0])
    a, b, c, offset = w2c[2].float()
    single = xyz.float()
    z = a * single[:, 0] + b * single[:, 1] + c * single[:, 2] + offset
    view = xyz.double() @ w2c[:3, :3].double().T + w2c[:3, 3].double()
    homogeneous = view @ camera.K[0].double().T
    return homogeneous[:, :2] / torch.where(z > 0, view[:, 2], 1.0)[:, None], z


def _window(reach: float) -> int:
    """Pixel centres in a row that a disc of ``reach`` pixels can cover."""
    return math.floor(2 * reach) + 1


def _covered(uv: Tensor, reach: float, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs (row of uv, pixel number, squared distance over squared radius) for uv [N, 2], row by row."""
    step = torch.arange(_window(reach), device=uv.device)
    first = torch.ceil(uv - (reach + 0.5))
    distance = ((first + 0.5 - uv)[:, :, None] + step).float() / reach  # [N, 2, window]
    cell = first.long()[:, :, None] + step
    size = torch.tensor([[width], [height]], device=uv.device)
    squared = torch.where((cell >= 0) & (cell < size), distance**2, 2.0)  # 2 is outside any disc
    d2 = squared[:, 1, :, None] + squared[:, 0, None, :]
    row, y, x = (d2 < 1).nonzero(as_tuple=True)
    return row, cell[row, 1, y] * width + cell[row, 0, x], d2[row, y, x]


def _rank(sorted_values: Tensor) -> Tensor:
    """[N] how many equal values stand before each one of a sorted list."""
    _, counts = torch.unique_consecutive(sorted_values, return_counts=True)
    start = counts.cumsum(0) - counts
    return torch.arange(len(sorted_values), device=counts.device) - start.repeat_interleave(counts)


@dataclass(frozen=True)
class TeacherCompositing:
    """What the teacher was trained on: PyTorch3D's point rasterizer with ``AlphaCompositor`` and no background.

    Alpha falls from 1 at the point to 0 at the radius, ``1 - d^2 / r^2``; the nearest points of a pixel are laid over
    each other front to back and nothing is normalised, so thin places darken and holes are black.
    """

    per_pixel: int = 10
    """Points that count in a pixel."""

    def render(self, points: PointCloud, cameras: Cameras, radius: float = TEACHER_RADIUS) -> PointRender:
        """See `PointRenderer.render`."""
        return _render(points, cameras, radius, self.per_pixel, None)


@dataclass(frozen=True)
class FrontMean:
    """The mean colour of a pixel's front surface, weighted by nearness to the pixel centre and normalised."""

    per_pixel: int = 10
    """Points that count in a pixel."""
    thickness: float = 0.02
    """Part of its depth that the front surface may be thick."""

    def render(self, points: PointCloud, cameras: Cameras, radius: float = TEACHER_RADIUS) -> PointRender:
        """See `PointRenderer.render`."""
        return _render(points, cameras, radius, self.per_pixel, self.thickness)


def _over_weights(share: Tensor, real: Tensor) -> Tensor:
    """[M, K] front-to-back over-compositing of alphas 1 - share, for M covered pixels."""
    alpha = torch.where(real, 1 - share, 0.0)
    behind = torch.cumprod(1 - alpha, dim=1)
    return alpha * torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], dim=1)


def _front_weights(z: Tensor, share: Tensor, real: Tensor, thickness: float) -> Tensor:
    """[M, K] shares of the points of the front surface in its mean, for M covered pixels."""
    front = real & (z <= z[:, :1] * (1 + thickness))
    weight = torch.where(front, (1 - share).clamp_min(1e-3), 0.0)
    return weight / weight.sum(1, keepdim=True)


def _render(
    points: PointCloud, cameras: Cameras, radius: float, per_pixel: int, thickness: float | None
) -> PointRender:
    """One picture after another; ``thickness`` is that of the front surface, None to lay points over each other."""
    check_radius(radius)
    out = empty_render(cameras)
    if len(points) == 0:
        return out
    compiled = points.xyz.device.type == "cpu" and not (points.xyz.requires_grad or points.rgb.requires_grad)
    reach = pixel_radius(radius, cameras.height, cameras.width)
    for i in range(len(cameras)):
        if compiled:
            from fvgen.rendering.point_renderer_numba import draw

            draw(points, cameras[i], reach, per_pixel, thickness, out[i])
        else:
            _draw(points, cameras[i], radius, per_pixel, thickness, out[i])
    return out


def _draw(
    points: PointCloud, camera: Cameras, radius: float, per_pixel: int, thickness: float | None, out: PointRender
) -> None:
    """One picture into ``out``, zeros: each pixel the weighted sum of its fragments."""
    fragments = rasterize_points(points.xyz, camera, radius, per_pixel)
    pixel = (fragments.index[..., 0] >= 0).flatten().nonzero()[:, 0]
    index, z, share = (part.flatten(0, 1)[pixel] for part in (fragments.index, fragments.z, fragments.share))
    real = index >= 0
    weight = _over_weights(share, real) if thickness is None else _front_weights(z, share, real, thickness)
    values = torch.cat([points.rgb, points.confidence[:, None]], dim=1).float()
    blended = (weight[..., None] * values[index.clamp_min(0)]).sum(1)
    out.rgb.view(3, -1)[:, pixel] = blended[:, :3].T
    out.confidence.view(-1)[pixel] = blended[:, 3]
    out.alpha.view(-1)[pixel] = weight.sum(1)
    out.depth.view(-1)[pixel] = z[:, 0]
