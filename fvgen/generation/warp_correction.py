"""A network that corrects warps, at another size than the photos': it is shown a small warp, and its correction is
enlarged and added to the full-size one, which keeps all the detail that the photos have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.conditioning.residual import WarpedClips
from fvgen.generation.warped_clip import warped_clip
from fvgen.types import CameraPath, Capture, SceneGeometry


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images [N, C, H, W] at another size, without aliasing; a copy when the size is theirs."""
    if images.shape[-2:] == (height, width):
        return images.clone()
    if not len(images):  # interpolate refuses an empty batch
        return images.new_empty((0, images.shape[1], height, width))
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True, align_corners=False)


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
