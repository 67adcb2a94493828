"""A network that corrects a warped clip: what it diffuses, and what it is told.

The diffused latents are the residual on the warp, z = (codec(image) - codec(warp)) / scale, whose scale is small where
the warp trusts itself and large where it does not; so z = 0 is the warp itself, and an untrained network whose output
is zero returns it unchanged. This needs a codec that is affine in its pixels (`fvgen.models.codec.SpaceToDepth`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.checks import require
from fvgen.models.codec import SpaceToDepthCodec

MASKS = ("photo", "covered", "trust")
"""The maps that a network is told beside renders and warps, in the order of their channels."""


@dataclass(frozen=True)
class WarpedClips:
    """B clips before the network: photos stand in ``render`` and ``warp`` at the frames that are photos."""

    render: Tensor
    """[B, F, 3, H, W] in [0, 1], the teacher's point render: black in the holes"""
    warp: Tensor
    """[B, F, 3, H, W] in [0, 1], as `fvgen.pipelines.warp.WarpViews` draws it"""
    covered: Tensor
    """[B, F, 1, H, W] bool: where the cloud was seen; True throughout a photo"""
    trust: Tensor
    """[B, F, 1, H, W] in [0, 1]: the warp's own pixel confidence"""
    photo: Tensor
    """[B, F] bool: frames that are photos"""

    def __post_init__(self) -> None:
        require(
            self.render.ndim == 5 and self.render.shape[2] == 3,
            "render", "have shape [B, F, 3, H, W]", tuple(self.render.shape), "Stack RGB frames of one size.",
        )  # fmt: skip
        batch, frames, _, height, width = self.render.shape
        shapes = {
            "warp": (batch, frames, 3, height, width),
            "covered": (batch, frames, 1, height, width),
            "trust": (batch, frames, 1, height, width),
            "photo": (batch, frames),
        }
        for name, shape in shapes.items():
            given = tuple(getattr(self, name).shape)
            require(given == shape, name, f"have shape {shape}, as the render asks", given, "Use one size of clip.")


@dataclass(frozen=True)
class ResidualSpace:
    """Images <-> normalised residuals on the warp. Scales are in units of pixels in [0, 1].

    The error of a warp falls evenly with its trust, and at equal trust it is about the same
    in the holes as on covered pixels; the defaults are that line, so latents have about unit deviation everywhere.
    """

    photo: float = 0.025
    """scale on frames that are photos, whose residual is 0"""
    trusted: float = 0.03
    """scale at trust 1"""
    untrusted: float = 0.17
    """scale at trust 0"""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            require(value > 0, field.name, "be a positive scale", value, "Give the usual size of a residual.")

    def encode(self, images: Tensor, clips: WarpedClips, codec: SpaceToDepthCodec) -> Tensor:
        """Latents [B, F, C, h, w] of images [B, F, 3, H, W] in [0, 1]."""
        return (codec.encode(images) - codec.encode(clips.warp)) / self.scale(clips, codec)

    def decode(self, latents: Tensor, clips: WarpedClips, codec: SpaceToDepthCodec) -> Tensor:
        """Images [B, F, 3, H, W] in [0, 1] of latents [B, F, C, h, w]; frames that are photos come back untouched."""
        base, scale = codec.encode(clips.warp), self.scale(clips, codec)
        images = codec.decode(base + scale * latents.to(base))
        return torch.where(clips.photo[:, :, None, None, None].to(images.device), clips.warp.to(images), images)

    def scale(self, clips: WarpedClips, codec: SpaceToDepthCodec) -> Tensor:
        """[B, F, C, h, w] what one unit of each latent is worth, in the codec's own units."""
        pixels = self.untrusted + (self.trusted - self.untrusted) * clips.trust.to(clips.warp)
        pixels = torch.where(clips.photo[:, :, None, None, None], self.photo, pixels).expand_as(clips.warp)
        # The codec is affine, so the difference of two codes is the code of a difference.
        return codec.encode(pixels) - codec.encode(torch.zeros_like(pixels))


def residual_condition(clips: WarpedClips, codec: SpaceToDepthCodec) -> Tensor:
    """[B, F, 2C + 3p², h, w] for `Conditions.render_latents`: render latents, `MASKS` in [-1, 1], warp latents.

    A mask keeps every pixel: a p x p patch of it becomes p² channels, as in the codec.
    """
    photo = clips.photo[:, :, None, None, None].expand_as(clips.covered)
    masks = torch.cat([2 * mask.to(clips.warp) - 1 for mask in (photo, clips.covered, clips.trust)], dim=2)
    masks = functional.pixel_unshuffle(masks.flatten(0, 1), codec.downscale).unflatten(0, photo.shape[:2])
    render = codec.encode(clips.render)
    return torch.cat([render, masks.to(render), codec.encode(clips.warp)], dim=2)


def warped_clips_of(condition: Tensor, codec: SpaceToDepthCodec) -> WarpedClips:
    """The clips that a `residual_condition` [B, F, 2C + 3p², h, w] was made of."""
    channels, patch = codec.latent_channels, codec.downscale
    render, masks, warp = condition.split([channels, len(MASKS) * patch**2, channels], dim=2)
    maps = functional.pixel_shuffle(masks.flatten(0, 1), patch).unflatten(0, condition.shape[:2])
    photo, covered, trust = ((maps + 1) / 2).split(1, dim=2)
    return WarpedClips(
        render=codec.decode(render),
        warp=codec.decode(warp),
        covered=covered > 0.5,
        trust=trust.clamp(0, 1),
        photo=photo.mean(dim=(2, 3, 4)) > 0.5,
    )


def residual_condition_channels(codec: SpaceToDepthCodec) -> int:
    """Channels of `residual_condition`: with them the network has ``in_channels = C + these``."""
    return 2 * codec.latent_channels + len(MASKS) * codec.downscale**2
