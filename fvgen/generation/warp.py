"""The generator without a network: real photos warped through the cloud's depth, with its holes filled.

The clip's two photos carry most of the weight because weight falls steeply with the change of view; farther photos show
what those two do not. Covered pixels are warped too: photos are crisper than points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.checks import require
from fvgen.conditioning.residual import WarpedClips
from fvgen.devices import is_gpu
from fvgen.generation.confidence import warped_pixel_confidence
from fvgen.generation.reprojection import (
    POINT_PIXELS,
    completed_depth,
    filled_photo_depths,
    push_pull,
    typical_depth,
    warp_photos,
)
from fvgen.generation.view_generator import PointViews, blank_drawing, check_path, join_with_photos
from fvgen.geometry.photo_order import view_change
from fvgen.numba_compile import for_each
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import CameraPath, Capture, GeneratedViews, Progress, SceneGeometry, no_progress

_PHOTOS_PER_FRAME = 6
"""So many of the nearest photos may give colour to a frame."""
_NEARNESS = 3.0
"""Exponent with which a photo's weight falls with the change of view."""
_KEEPS_DETAIL = 0.4
"""Confidence from which a pixel keeps the warped colour as it is."""


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
        radius = radius_of_pixels(POINT_PIXELS, cameras.height, cameras.width)
        far = typical_depth(geometry)
        progress(0, len(cameras), "warping photos")
        change = view_change(capture.cameras, cameras).T
        nearest = change.argsort(dim=1)[:, :_PHOTOS_PER_FRAME]
        photo_depths = filled_photo_depths(geometry, nearest.unique().tolist())
        out = blank_drawing(capture, len(cameras))
        done = count(1)

        def draw(i: int) -> None:
            near = nearest[i]
            weight = (1 / (change[i, near] ** _NEARNESS + 1e-6)).to(capture.photos)
            render = renderer.render(geometry.points, cameras[i], radius)
            depth = completed_depth(render.depth, geometry, cameras[i], far)
            colour, seen = warp_photos(
                capture.photos[near], capture.valid[near], photo_depths[near], capture.cameras[near], cameras[i], depth
            )
            rgb, disagreement, visibility = _blend(colour, seen, weight[:, None, None, None])
            covered = render.depth > 0
            first, second = change[i, near[0]], change[i, near[1]]
            away = float(2 * first / (first + second))
            confidence = warped_pixel_confidence(covered, disagreement, visibility, render.confidence, away)
            # Of little confidence, a detail is mostly wrong: the surroundings go on there instead.
            rgb = push_pull(rgb, (confidence / _KEEPS_DETAIL).clamp_max(1) ** 2)
            out.rgb[i], out.depth[i], out.covered[i], out.confidence[i] = rgb[0], depth[0], covered[0], confidence[0]
            progress(next(done), len(cameras), "warping photos")

        if is_gpu(capture.photos.device):
            for i in range(len(cameras)):
                draw(i)
        else:
            for_each(draw, len(cameras))
        return join_with_photos(capture, geometry, path, out)


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


def warped_clip(
    capture: Capture,
    geometry: SceneGeometry,
    path: CameraPath,
    frames: Tensor,
    known: Tensor,
    renders: Tensor | None = None,
) -> WarpedClips:
    """One clip (B = 1): render and warp at the frames to be drawn, pixels as they are at the known ones.

    Args:
        capture: V photos at the size of the clip.
        geometry: of the same photos at the same size.
        path: F frames.
        frames: [F, 3, H, W]; what stands at frames that are not known does not matter.
        known: [F] bool: photos, and frames that an earlier window has drawn.
        renders: [F, 3, H, W] as `PointViews` draws them, if that is done; known frames do not matter here either.

    Raises:
        InputError: sizes disagree.
    """
    expected = (len(path), *capture.photos.shape[1:])
    require(frames.shape == expected, "frames", f"have shape {expected}", tuple(frames.shape), "Resize the capture.")
    known = known.to(frames.device)
    given = known[:, None, None, None]
    warp = WarpViews().generate(capture, geometry, path)
    if renders is None:
        renders = PointViews().generate(capture, geometry, path).rgb
    return WarpedClips(
        render=torch.where(given, frames, renders.clamp(0, 1))[None],
        warp=torch.where(given, frames, warp.rgb)[None],
        covered=(given | warp.covered)[None],
        confidence=torch.where(given, 1.0, warp.pixel_confidence)[None],
        photo=known[None],
    )


@dataclass(frozen=True)
class WarpCorrection:
    """The warps of one clip of L frames: at the photos' size, and at the network's."""

    whole: Tensor
    """[L, 3, H, W]"""
    small: WarpedClips
    """B = 1 clip of L frames [3, h, w]"""

    @classmethod
    def of(
        cls, capture: Capture, geometry: SceneGeometry, clip: CameraPath, renders: Tensor, height: int, width: int
    ) -> WarpCorrection:
        """Warp the capture's photos to the frames of a clip; photos stand where the path has them.

        Args:
            capture: the photos.
            geometry: of the same photos.
            clip: L frames.
            renders: [D, 3, H, W] point renders of the frames without a photo.
            height, width: what the network draws.
        """
        known = (clip.photo >= 0).to(capture.photos.device)
        frames = capture.photos.new_zeros(len(clip), *capture.photos.shape[1:])
        frames[known] = capture.photos[clip.photo[clip.photo >= 0].to(capture.photos.device)]
        frames[~known] = renders.to(frames)
        warps = warped_clip(capture, geometry, clip, frames, known, renders=frames)

        def small(values: Tensor) -> Tensor:
            return resized(values[0].float(), height, width)[None]

        return cls(
            warps.warp[0],
            WarpedClips(
                render=small(warps.render).clamp(0, 1),
                warp=small(warps.warp).clamp(0, 1),
                covered=small(warps.covered) > 0.5,
                confidence=small(warps.confidence).clamp(0, 1),
                photo=known[None],
            ),
        )

    def window(self, frames: Tensor, known: Tensor, window: Tensor) -> WarpedClips:
        """What the network is given of the frames ``window`` [n] of the clip.

        Args:
            frames: [L, 3, h, w], as drawn so far at the known frames.
            known: [L] bool.
            window: [n] int64.
        """
        given = known[window].to(frames.device)
        keys = given[None, :, None, None, None]
        part = {name: getattr(self.small, name)[:, window] for name in ("render", "warp", "covered", "confidence")}
        drawn = frames[window][None]
        return WarpedClips(
            render=torch.where(keys, drawn, part["render"]),
            warp=torch.where(keys, drawn, part["warp"]),
            covered=part["covered"] | keys,
            confidence=part["confidence"].masked_fill(keys, 1),
            photo=given[None],
        )

    def enlarge(self, frames: Tensor) -> Tensor:
        """[L, 3, H, W] of drawn frames [L, 3, h, w]."""
        correction = frames - self.small.warp[0].to(frames)
        return (self.whole.to(frames) + resized(correction, *self.whole.shape[2:])).clamp(0, 1)


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images [N, C, H, W] at another size, without aliasing; a copy when the size is theirs."""
    if images.shape[-2:] == (height, width):
        return images.clone()
    if not len(images):  # interpolate refuses an empty batch
        return images.new_empty((0, images.shape[1], height, width))
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)
