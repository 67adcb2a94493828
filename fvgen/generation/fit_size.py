"""Images of any size through a network that takes multiples: pixels and intrinsics always change together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fvgen.checks import require
from fvgen.conditioning.residual import WarpedClips
from fvgen.types import Cameras

Fit = Literal["pad", "crop"]


@dataclass(frozen=True)
class SizeFit:
    """How images of ``height`` x ``width`` come to a size that the network takes, and back."""

    height: int
    width: int
    fit: Fit
    rows: tuple[int, int]
    """Rows added above and below (``pad``), or taken away (``crop``)."""
    columns: tuple[int, int]
    """The same, left and right."""

    @classmethod
    def plan(cls, height: int, width: int, multiple: int, fit: Fit) -> SizeFit:
        """Evenly on both sides, to the next multiple up (``pad``) or down (``crop``).

        Raises:
            InputError: for an unknown ``fit``, or an image that cropping would leave nothing of.
        """
        require(fit in ("pad", "crop"), "fit", "be pad or crop", fit, "Pad keeps every pixel.")
        require(
            fit == "pad" or min(height, width) >= multiple,
            "renders",
            f"be at least {multiple}x{multiple} to be cropped",
            (height, width),
            "Use fit='pad'.",
        )
        rows, columns = (size % multiple if fit == "crop" else -size % multiple for size in (height, width))
        return cls(height, width, fit, (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))

    def apply(self, images: Tensor) -> Tensor:
        """[..., 3, H', W'] of images [..., 3, H, W]; padding repeats the border."""
        (top, bottom), (left, right) = self.rows, self.columns
        if self.fit == "crop":
            return images[..., top : self.height - bottom, left : self.width - right]
        padded = F.pad(images.flatten(0, -4), (left, right, top, bottom), mode="replicate")
        return padded.unflatten(0, images.shape[:-3])

    def restore(self, frames: Tensor) -> Tensor:
        """The frames [..., 3, H', W'] without what padding added."""
        if self.fit == "crop":
            return frames
        top, left = self.rows[0], self.columns[0]
        return frames[..., top : top + self.height, left : left + self.width]

    def cameras(self, cameras: Cameras) -> Cameras:
        """The cameras of `restore`'d frames, for cameras of the original images."""
        if self.fit == "pad":
            return cameras
        (top, bottom), (left, right) = self.rows, self.columns
        return cameras.cropped(top, left, self.height - top - bottom, self.width - left - right)


def fit_warps(warps: WarpedClips, render: Tensor, size: SizeFit) -> WarpedClips:
    """The clips at the network's size.

    Args:
        warps: B clips of the original size.
        render: [B, F, 3, H', W'] their renders with photos in place, already at the network's size.
        size: how the network's size is reached.
    """
    photo = warps.photo[:, :, None, None, None].to(render.device)
    return WarpedClips(
        render=render,
        warp=photo * render + ~photo * size.apply(warps.warp).to(render),
        covered=photo | (size.apply(warps.covered.float()) > 0.5).to(render.device),
        confidence=size.apply(warps.confidence).to(render).masked_fill(photo, 1),
        photo=warps.photo.to(render.device),
    )
