"""A network that corrects a warped clip: what it diffuses, and what it is given.

The diffused latents are the residual on the warp, z = (codec(image) - codec(warp)) / scale, whose scale is small where
the warp is confident and large where it is not; so z = 0 is the warp itself, and an untrained network whose output
is zero returns it unchanged. This needs a codec that is affine in its pixels (`fvgen.models.codec.SpaceToDepth`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor

from fvgen.checks import require

if TYPE_CHECKING:  # diffusers comes with it, and takes seconds: the warp draws without a network
    from fvgen.models.codec import SpaceToDepthCodec

MASKS = ("photo", "covered", "confidence")
"""The maps that a network is given beside renders and warps, in the order of their channels."""
SMOOTHINGS = (1.5, 6.0)
"""Deviations, in the network's pixels, of the smoothed warps that it is given."""


@dataclass(frozen=True)
class WarpedClips:
    """B clips before the network: photos stand in ``render`` and ``warp`` at the frames that are photos."""

    render: Tensor
    """[B, F, 3, H, W] in [0, 1], the teacher's point render: black in the holes"""
    warp: Tensor
    """[B, F, 3, H, W] in [0, 1], as `fvgen.generation.warp.WarpViews` draws it"""
    covered: Tensor
    """[B, F, 1, H, W] bool: where the cloud was seen; True throughout a photo"""
    confidence: Tensor
    """[B, F, 1, H, W] in [0, 1]: the warp's own pixel confidence"""
    photo: Tensor
    """[B, F] bool: frames that are photos"""

    def __post_init__(self) -> None:
        require(
            self.render.ndim == 5 and self.render.shape[2] == 3,
            "render",
            "have shape [B, F, 3, H, W]",
            tuple(self.render.shape),
            "Stack RGB frames of one size.",
        )
        batch, frames, _, height, width = self.render.shape
        shapes = {
            "warp": (batch, frames, 3, height, width),
            "covered": (batch, frames, 1, height, width),
            "confidence": (batch, frames, 1, height, width),
            "photo": (batch, frames),
        }
        for name, shape in shapes.items():
            given = tuple(getattr(self, name).shape)
            require(given == shape, name, f"have shape {shape}, as the render asks", given, "Use one size of clip.")


@dataclass(frozen=True)
class ResidualSpace:
    """Images <-> normalised residuals on the warp. Scales are in units of pixels in [0, 1].

    The error of a warp falls evenly with its confidence, and at equal confidence it is about the same in the holes as
    on covered pixels. The defaults are that line, so latents have about unit deviation everywhere.
    """

    photo: float = 0.025
    """scale on frames that are photos, whose residual is 0"""
    trusted: float = 0.03
    """scale at confidence 1"""
    untrusted: float = 0.17
    """scale at confidence 0"""

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
        pixels = self.untrusted + (self.trusted - self.untrusted) * clips.confidence.to(clips.warp)
        pixels = torch.where(clips.photo[:, :, None, None, None], self.photo, pixels).expand_as(clips.warp)
        # The codec is affine, so the difference of two codes is the code of a difference.
        return codec.encode(pixels) - codec.encode(torch.zeros_like(pixels))


def residual_condition(clips: WarpedClips, space: ResidualSpace, codec: SpaceToDepthCodec) -> Tensor:
    """[B, F, 4C + 3p², h, w] for `Conditions.render_latents`: candidates, `MASKS` in [-1, 1], warp latents.

    A candidate is given as the residual that would give it: 0 is the warp again. Three of them, of C channels each: the
    render where it covers, and the warp smoothed as `SMOOTHINGS` says, each pixel weighing by its confidence. What is
    learnt is when to move towards which; from the plain latents alone, whose details are small beside their brightness,
    a network learns that a hundred times more slowly.

    A mask keeps every pixel: a p x p patch of it becomes p² channels, as in the codec.
    """
    photo = clips.photo[:, :, None, None, None].expand_as(clips.covered)
    masks = torch.cat([2 * mask.to(clips.warp) - 1 for mask in (photo, clips.covered, clips.confidence)], dim=2)
    masks = rearrange(masks, "b f c (h p) (w q) -> b f (c p q) h w", p=codec.downscale, q=codec.downscale)
    candidates = [torch.where(clips.covered, clips.render, clips.warp)]
    candidates += [smoothed(clips.warp, clips.confidence.to(clips.warp) ** 2, sigma) for sigma in SMOOTHINGS]
    warp, scale = codec.encode(clips.warp), space.scale(clips, codec)
    residuals = [(codec.encode(candidate) - warp) / scale for candidate in candidates]
    return torch.cat([*residuals, masks.to(warp), warp], dim=2)


def smoothed(images: Tensor, weight: Tensor, sigma: float) -> Tensor:
    """Gaussian means of images [B, F, C, H, W] under pixel weights [B, F, 1, H, W] (normalised convolution, Knutsson
    and Westin 1993); ``sigma`` in pixels."""
    values = torch.cat([images * weight, weight], dim=2)
    height, width = images.shape[-2:]
    total = _gaussian_band(height, sigma, values) @ values @ _gaussian_band(width, sigma, values)
    return (total[:, :, :-1] + 1e-4 * images) / (total[:, :, -1:] + 1e-4)


def _gaussian_band(size: int, sigma: float, like: Tensor) -> Tensor:
    """[size, size] symmetric matrix that blurs a line, as zero beyond its ends, when multiplied with it.

    On a CPU two products with it take a tenth of the time of two convolutions with one channel.
    """
    place = torch.arange(size, device=like.device)
    distance = (place[:, None] - place).abs()
    reach = math.ceil(2.5 * sigma)
    whole = torch.exp(-(torch.arange(-reach, reach + 1, device=like.device) ** 2) / (2 * sigma**2)).sum()
    return torch.where(distance <= reach, torch.exp(-(distance**2) / (2 * sigma**2)) / whole, 0.0).to(like)


def warped_clips_of(condition: Tensor, space: ResidualSpace, codec: SpaceToDepthCodec) -> WarpedClips:
    """The clips that a `residual_condition` [B, F, 4C + 3p², h, w] was made of; renders are black in their holes."""
    channels, patch = codec.latent_channels, codec.downscale
    render, _, masks, warp = condition.split(
        [channels, len(SMOOTHINGS) * channels, len(MASKS) * patch**2, channels], dim=2
    )
    maps = rearrange(masks, "b f (c p q) h w -> b f c (h p) (w q)", p=patch, q=patch)
    photo, covered, confidence = ((maps + 1) / 2).split(1, dim=2)
    pixels = codec.decode(warp)
    clips = WarpedClips(pixels, pixels, covered > 0.5, confidence.clamp(0, 1), photo.mean(dim=(2, 3, 4)) > 0.5)
    return replace(clips, render=clips.covered * space.decode(render, clips, codec))


def residual_condition_channels(codec: SpaceToDepthCodec) -> int:
    """Channels of `residual_condition`: with them the network has ``in_channels = C + these``."""
    return (2 + len(SMOOTHINGS)) * codec.latent_channels + len(MASKS) * codec.downscale**2
