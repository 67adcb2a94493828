"""The generator without a network: real photos warped through the cloud's depth, with its holes filled.

The clip's two photos carry most of the weight because weight falls steeply with the change of view; farther photos show
what those two do not. Covered pixels are warped too: photos are crisper than points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.generation.confidence import pixel_confidence
from fvgen.generation.view_generator import blank_drawing, check_path, join_with_photos
from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.photo_order import focus_point, view_change
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, Progress, SceneGeometry, no_progress

_FILLED: WeakKeyDictionary[SceneGeometry, dict[int, Tensor]] = WeakKeyDictionary()
"""What `filled_photo_depths` has made, by geometry and photo."""
_PHOTOS_PER_FRAME = 6
"""So many of the nearest photos may give colour to a frame."""
_NEARNESS = 3.0
"""Exponent with which a photo's weight falls with the change of view."""
_POINT_PIXELS = 1.0
"""Radius of a point in depth renders, in pixels."""
_KEEPS_DETAIL = 0.4
"""Confidence from which a pixel keeps the warped colour as it is."""
_FEATHER = 0.06
"""Share of the shorter side over which a photo fades in from its border, so that no seam shows there."""
_DEPTH_TOLERANCE = 0.03
"""Share of its depth by which a point may lie behind a photo's surface and still belong to it."""
_DEPTH_FALLOFF = 0.05
"""Share of its depth over which a point farther behind loses visibility by e."""


@dataclass(frozen=True)
class WarpViews:
    """Depth-aware warp of the nearest photos."""

    def generate(
        self,
        capture: Capture,
        geometry: SceneGeometry,
        path: CameraPath,
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> GeneratedViews:
        """See `fvgen.generation.view_generator.ViewGenerator.generate`; nothing here is random."""
        check_path(capture, path)
        cameras = path.drawn
        renderer = resolve("front")
        radius = radius_of_pixels(_POINT_PIXELS, cameras.height, cameras.width)
        far = typical_depth(geometry)
        progress(0, len(cameras), "warping photos")
        change = view_change(capture.cameras, cameras).T
        nearest = change.argsort(dim=1)[:, :_PHOTOS_PER_FRAME]
        photo_depths = filled_photo_depths(geometry, nearest.unique().tolist())
        out = blank_drawing(capture, len(cameras))
        for i, near in enumerate(nearest):
            weight = (1 / (change[i, near] ** _NEARNESS + 1e-6)).to(capture.photos)
            render = renderer.render(geometry.points, cameras[i], radius)
            depth = fill_depth(render.depth, far)
            colour, seen = warp_photos(
                capture.photos[near], capture.valid[near], photo_depths[near], capture.cameras[near], cameras[i], depth
            )
            rgb, disagreement, visibility = _blend(colour, seen, weight[:, None, None, None])
            covered = render.depth > 0
            first, second = change[i, near[0]], change[i, near[1]]
            away = float(2 * first / (first + second))
            confidence = pixel_confidence(covered, disagreement, visibility, render.confidence, away)
            # Of little confidence, a detail is mostly wrong: the surroundings go on there instead.
            rgb = push_pull(rgb, (confidence / _KEEPS_DETAIL).clamp_max(1) ** 2)
            out.rgb[i], out.depth[i], out.covered[i], out.confidence[i] = rgb[0], depth[0], covered[0], confidence[0]
            progress(i + 1, len(cameras), "warping photos")
        return join_with_photos(capture, geometry, path, out)


def push_pull(values: Tensor, weight: Tensor) -> Tensor:
    """Values where the weight is 1, smooth continuations where it is 0 (Gortler et al. 1996, the Lumigraph).

    Weighted means are pulled up a pyramid to where everything is known, and pushed back down into the gaps.

    Args:
        values: [F, C, H, W].
        weight: [F, 1, H, W] in [0, 1]. A frame of zero weight throughout comes back as zeros.
    """
    levels = [(values, weight)]
    while max(values.shape[-2:]) > 1:
        odd = (0, values.shape[-1] % 2, 0, values.shape[-2] % 2)
        total = 4 * functional.avg_pool2d(functional.pad(weight, odd), 2)
        values = 4 * functional.avg_pool2d(functional.pad(values * weight, odd), 2) / total.clamp_min(1e-8)
        weight = total.clamp_max(1)
        levels.append((values, weight))
    filled = levels[-1][0]
    for values, weight in reversed(levels[:-1]):
        height, width = values.shape[-2:]
        finer = functional.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        filled = weight * values + (1 - weight) * finer[..., :height, :width]
    return filled


def fill_depth(depth: Tensor, far: float) -> Tensor:
    """[F, 1, H, W] depth with its zeros filled: inverse depth, which is linear on planes, continued smoothly.

    Args:
        depth: [F, 1, H, W], 0 where unknown.
        far: what a frame without any known depth gets.
    """
    known = (depth > 0).to(depth.dtype)
    inverse = push_pull(torch.where(depth > 0, 1 / depth.clamp_min(1e-12), 0.0), known)
    empty = ~known.flatten(1).any(dim=1)
    inverse[empty] = 1 / far
    return 1 / inverse


def warp_photos(
    photos: Tensor, valid: Tensor, depths: Tensor, cameras: Cameras, frame: Cameras, depth: Tensor
) -> tuple[Tensor, Tensor]:
    """S photos as they look from another camera of known depth.

    Args:
        photos: [S, 3, H, W].
        valid: [S, H, W] bool, False where a photo has no pixel.
        depths: [S, 1, H, W] without zeros, to find what is hidden in a photo.
        cameras: S cameras of the photos.
        frame: one camera.
        depth: [1, 1, H, W] of the frame, without zeros.

    Returns:
        colour [S, 3, H, W]; seen [S, 1, H, W] in [0, 1]: 0 out of the picture, low near its border, behind something
        nearer and where the photo would be drawn out.
    """
    height, width = depth.shape[-2:]
    uv, z = project(unproject(depth[:, 0], frame).reshape(-1, 3), cameras)
    uv, z = uv.view(-1, height, width, 2), z.view(-1, 1, height, width)
    size = torch.tensor([cameras.width, cameras.height], device=uv.device, dtype=uv.dtype)
    grid = uv / size * 2 - 1

    def sample(image: Tensor) -> Tensor:
        return functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)

    inside = ((uv > 0) & (uv < size)).all(-1)[:, None] & (z > 0) & (sample(valid[:, None].to(photos.dtype)) > 0.99)
    to_border = torch.minimum(uv, size - uv).amin(-1)[:, None] / (_FEATHER * size.min())
    behind = (z / sample(depths) - 1 - _DEPTH_TOLERANCE).clamp_min(0)
    seen = torch.exp(-behind / _DEPTH_FALLOFF) * to_border.clamp(1e-3, 1) * _squareness(uv).clamp_min(1e-3)
    return sample(photos), inside * seen


def _squareness(uv: Tensor) -> Tensor:
    """[S, 1, H, W] short over long axis of what a frame's pixel covers in a photo, from uv [S, H, W, 2].

    A slanted surface is drawn out from few pixels of the photo; at a jump in depth the photo is torn.
    """
    down, right = torch.gradient(uv, dim=(1, 2))
    half_trace = ((down**2).sum(-1) + (right**2).sum(-1)) / 2
    off = torch.sqrt(((down**2).sum(-1) - (right**2).sum(-1)) ** 2 / 4 + (down * right).sum(-1) ** 2)
    # Singular values of the Jacobian are the roots of half_trace +- off.
    return (((half_trace - off).clamp_min(0) / (half_trace + off).clamp_min(1e-12)).sqrt())[:, None]


def _blend(colour: Tensor, seen: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One frame from S warped photos: rgb [1, 3, H, W], disagreement and visibility [1, 1, H, W].

    Args:
        colour: [S, 3, H, W].
        seen: [S, 1, H, W] as from `warp_photos`.
        weight: [S, 1, 1, 1] nearness of each photo.
    """
    # A hidden place still gets colour when no photo sees it better; out of the picture there is none.
    share = weight * torch.where(seen > 0, seen + 1e-3, 0.0)
    total = share.sum(0, keepdim=True)
    share = share / total.clamp_min(1e-12)
    rgb = (share * colour).sum(0, keepdim=True)
    variance = (share * (colour - rgb) ** 2).sum(0, keepdim=True).mean(1, keepdim=True)
    somewhere = (total > 0).to(rgb.dtype)
    rgb = somewhere * rgb + (1 - somewhere) * push_pull(rgb, somewhere)
    return rgb.clamp(0, 1), variance.sqrt(), (share * seen).sum(0, keepdim=True)


def filled_photo_depths(geometry: SceneGeometry, photos: Sequence[int]) -> Tensor:
    """[V, 1, H, W] each wanted photo's own depth, else that of the cloud seen from it, else filled; others are 0.

    A path is drawn clip by clip, and neighbouring clips see the same photos: what was filled is kept as long as the
    geometry is.
    """
    known = _FILLED.setdefault(geometry, {})
    radius = radius_of_pixels(_POINT_PIXELS, geometry.cameras.height, geometry.cameras.width)
    out = torch.zeros_like(geometry.depths)[:, None]
    for photo in photos:
        if photo not in known:
            own = geometry.depths[photo][None, None]
            seen = resolve("front").render(geometry.points, geometry.cameras[photo], radius).depth
            known[photo] = fill_depth(torch.where(own > 0, own, seen), typical_depth(geometry))
        out[photo] = known[photo][0]
    return out


def typical_depth(geometry: SceneGeometry) -> float:
    """The median known depth; without any, the distance to what the cameras look at."""
    known = geometry.depths[geometry.depths > 0]
    if len(known):
        return float(known.median())
    cameras = geometry.cameras
    return float((cameras.positions - focus_point(cameras)).norm(dim=1).median())
