"""From renders and photos to what a video network is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import Conditions
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.prompts import PROMPT
from fvgen.devices import side_by_side

FPS = 10
"""The frame rate label of every clip that ViewCrafter was trained on."""


class Encoder(Protocol):
    """The half of a codec that conditions need."""

    latent_channels: int
    downscale: int

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """[B, F, C, h, w] of [B, F, 3, H, W]."""


def insert_photos(renders: Tensor, photos: Tensor, photo_frames: Sequence[int]) -> Tensor:
    """Clips [B, F, 3, H, W] with photos in the place of the frames that show them.

    Args:
        renders: [B, F, 3, H, W].
        photos: [B, K, 3, H, W].
        photo_frames: K frame numbers; negative ones count from the end.

    Raises:
        InputError: when shapes disagree, or a frame does not exist or is named twice.
    """
    batch, frames = renders.shape[:2]
    expected = (batch, len(photo_frames), *renders.shape[2:])
    require(
        photos.shape == expected,
        "photos",
        f"have shape {expected}, one per photo frame",
        tuple(photos.shape),
        "Bring photos to the renders' size.",
    )
    places = [frame + frames if frame < 0 else frame for frame in photo_frames]
    require(
        all(0 <= place < frames for place in places) and len(set(places)) == len(places),
        "photo_frames",
        f"name different frames of {frames}",
        list(photo_frames),
        "Use (0, -1) for first and last.",
    )
    clips = renders.clone()
    clips[:, places] = photos.to(renders)
    return clips


@torch.no_grad()
def encode_conditions(
    clips: Tensor,
    encoder: Encoder,
    token_encoder: TokenEncoder,
    *,
    device: torch.device,
    posterior_noise: Callable[[Tensor], Tensor] | None,
    guidance: bool,
    prompt: str = PROMPT,
    fps: int = FPS,
) -> Conditions:
    """Conditions of B clips.

    Args:
        clips: [B, F, 3, H, W] in [0, 1]: point renders with the photos in their places; the first frame is the image
            that CLIP sees.
        encoder: pixels -> latents; every frame is encoded as a posterior sample, as in ViewCrafter's training.
        token_encoder: image and text -> tokens.
        device: where to compute, and where the conditions live.
        posterior_noise: ``randn_like``; None encodes posterior means.
        guidance: whether unconditional tokens are needed.
        prompt: text.
        fps: frame rate label.
    """
    batch, frames, _, height, width = clips.shape
    shape = (batch, frames, encoder.latent_channels, height // encoder.downscale, width // encoder.downscale)
    noise = None if posterior_noise is None else posterior_noise(torch.empty(shape))
    latents, tokens = side_by_side(
        lambda: encoder.encode(clips, noise).to(device),
        lambda: token_encoder.tokens(clips[:, 0], prompt, device),
        device,
    )
    return Conditions(
        render_latents=latents,
        tokens=tokens,
        fps=torch.full((batch,), fps, dtype=torch.int64, device=device),
        unconditional_tokens=token_encoder.unconditional_tokens(batch, device) if guidance else None,
    )
