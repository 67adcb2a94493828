"""TAESD in place of the Stable Diffusion autoencoder: how it is loaded, and what it costs on real frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from fvgen.checks import require
from fvgen.metrics import psnr
from fvgen.models.codec import Codec, codec_for
from fvgen.models.folder import load_component


def load_tiny_codec(folder: Path, own: Codec) -> AutoencoderTiny:
    """A TAESD for the latents of a network's own codec.

    Args:
        folder: as ``AutoencoderTiny.save_pretrained`` writes it; nothing is downloaded.
        own: the codec in whose place it comes.

    Raises:
        InputError: the folder holds none, or it is for other latents.
    """
    tiny = load_component(AutoencoderTiny, folder).eval()
    codec = codec_for(tiny)
    shape = (codec.latent_channels, codec.downscale)
    wanted = (own.latent_channels, own.downscale)
    rule = f"have {wanted[0]} channels of latents at 1/{wanted[1]} of the size, as {type(own.vae).__name__} has here"
    require(shape == wanted, "tiny codec", rule, f"{shape[0]} at 1/{shape[1]}", "Leave it out, or name another.")
    return tiny


@dataclass(frozen=True)
class CodecCost:
    """Mean PSNR, in dB, of frames that went through codecs and back."""

    frames: int
    own: float
    """PSNR of the network's own codec against the frames."""
    tiny: float
    """PSNR of the tiny one against the frames."""
    between: float
    """PSNR of the tiny one against the network's own."""

    def __str__(self) -> str:
        return (
            f"TAESD on {self.frames} photos: {self.between:.1f} dB against the autoencoder that it stands in for"
            f" ({self.tiny:.1f} dB against the photos, where that has {self.own:.1f})."
        )


@torch.no_grad()
def codec_cost(own: Codec, tiny: Codec, photos: Tensor) -> CodecCost:
    """What a tiny codec costs on photos [N, 3, H, W] in [0, 1], each encoded and decoded by both."""
    height, width = (size // own.downscale * own.downscale for size in photos.shape[-2:])
    frames = photos[None, :, :, :height, :width].float().cpu()
    first, second = (codec.decode(codec.encode(frames)).cpu() for codec in (own, tiny))

    def mean(a: Tensor, b: Tensor) -> float:
        return sum(float(psnr(x, y)) for x, y in zip(a[0], b[0], strict=True)) / len(photos)

    return CodecCost(len(photos), mean(first, frames), mean(second, frames), mean(second, first))
