"""Which photos and generated views saw the surface that a Gaussian lies on: the support that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.geometry.cameras import project
from fvgen.rendering.splat_rasterizer import SplatRender
from fvgen.types import Cameras, TensorRecord

PHOTO_BLUES = ((0.55, 0.75, 0.98), (0.30, 0.58, 0.96), (0.10, 0.38, 0.85))
"""Colours of a surface that one, two, three or more photos saw."""
GENERATED_ORANGE = (0.96, 0.51, 0.13)
NOTHING_GREY = (0.5, 0.5, 0.5)
LONGEST_SIDE = 192
"""Longest side of the renders that show what is hidden, in pixels."""
MOST_VIEWS = 24
"""So many generated views are asked, evenly chosen: neighbours see the same."""
_TOLERANCE = 0.05
"""Share of the depth by which a Gaussian may lie before or behind the surface."""


@dataclass(frozen=True)
class Witness(TensorRecord):
    """A picture that may have seen a surface."""

    camera: Cameras
    """A batch of one."""
    confidence: Tensor
    """[H, W] in [0, 1] of the camera's size: 1 in a photo, 0 where its mask hides the pixel."""
    is_photo: bool


@dataclass(frozen=True)
class Support:
    """What saw each Gaussian of a splat, as it was when it was measured."""

    gaussians: dict[str, Tensor]
    """Its parameters before activation, N rows each."""
    photos: Tensor
    """[N] int64: how many photos saw it."""
    confidence: Tensor
    """[N] in [0, 1]: 1 if a photo saw it, else the highest confidence with which a generated view shows it."""

    @property
    def colours(self) -> Tensor:
        """[N, 3]: blue, the deeper the more photos saw it; orange for generated views alone; grey for nothing."""
        table = self.confidence.new_tensor([NOTHING_GREY, *PHOTO_BLUES, GENERATED_ORANGE])
        generated = (self.photos == 0) & (self.confidence > 0)
        return table[torch.where(generated, len(table) - 1, self.photos.clamp(max=len(PHOTO_BLUES)))]

    def of_photos(self) -> dict[str, Tensor]:
        """The parameters of the Gaussians that a photo saw."""
        return {name: value[self.photos > 0] for name, value in self.gaussians.items()}


def measure_support(
    gaussians: Mapping[str, Tensor],
    witnesses: Sequence[Witness],
    render: Callable[[Mapping[str, Tensor], Cameras], SplatRender],
) -> Support:
    """Ask every picture which Gaussians lie on the surface that it shows.

    Args:
        gaussians: parameters before activation, N rows each.
        witnesses: photos and generated views.
        render: draws them for a batch of one camera.
    """
    means = gaussians["means"]
    photos = torch.zeros(len(means), dtype=torch.int64, device=means.device)
    confidence = means.new_zeros(len(means))
    for witness in witnesses:
        picture = render(gaussians, witness.camera)
        pixel, on_surface = surface_pixels(means, witness.camera, picture.depth[0, ..., 0], picture.alpha[0, ..., 0])
        shown = torch.where(on_surface, witness.confidence.flatten()[pixel], 0.0)
        if witness.is_photo:
            shown = (shown > 0.5).to(means)
            photos += shown.long()
        confidence = torch.maximum(confidence, shown)
    return Support(dict(gaussians), photos, confidence)


def surface_pixels(means: Tensor, camera: Cameras, depth: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Where a picture shows points, and whether they lie on the surface there.

    Args:
        means: [N, 3].
        camera: a batch of one.
        depth: [H, W] of the surface, along the viewing axis.
        alpha: [H, W]; there is a surface where it is above a half.

    Returns:
        pixel [N] int64 (row-major; any where the point is out of the picture) and on_surface [N] bool.
    """
    uv, z = project(means, camera)
    x, y, z = uv[0, :, 0].floor().long(), uv[0, :, 1].floor().long(), z[0]
    inside = (z > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    pixel = torch.where(inside, y * camera.width + x, 0)
    solid = alpha > 0.5
    # Over an edge a pixel holds a mean of two depths, so its neighbours count, too.
    nearest = -_largest_around(torch.where(solid, -depth, -torch.inf))
    farthest = _largest_around(torch.where(solid, depth, 0.0))
    before, behind = nearest.flatten()[pixel] * (1 - _TOLERANCE), farthest.flatten()[pixel] * (1 + _TOLERANCE)
    return pixel, inside & solid.flatten()[pixel] & (z >= before) & (z <= behind)


def _largest_around(values: Tensor) -> Tensor:
    """[H, W] the largest value of 3 x 3 pixels."""
    return functional.max_pool2d(values[None, None], 3, stride=1, padding=1)[0, 0]
