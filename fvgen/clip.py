"""Clips on their way to a network: true frames as captures and procedural scenes give them, conditions, batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.types import CameraPath, Capture, TensorRecord


@dataclass(frozen=True)
class Clip:
    """F true frames and the photos that a generator would start from."""

    name: str
    """Unique within a training set."""
    capture: Capture
    """V photos at the size of the clip."""
    path: CameraPath
    """F cameras through them."""
    frames: Tensor
    """[F, 3, H, W] in [0, 1]: what is really there."""
    known: Tensor
    """[F] bool: frames that the network is given, photos or drawn before."""


@dataclass(frozen=True)
class Conditions(TensorRecord):
    """What a video network is given of B clips."""

    render_latents: Tensor
    """[B, F, C, h, w] encoded point renders, photos where a frame is a photo"""
    tokens: Tensor
    """[B, N, D] for cross-attention: text, then image"""
    fps: Tensor
    """[B] int64 frame rate label"""
    unconditional_tokens: Tensor | None = None
    """[B, N, D] tokens of an empty text and a grey image; only guidance needs them"""

    def unconditional(self) -> Conditions:
        """The twin that guidance steers away from: other tokens, the same renders (they are never dropped)."""
        if self.unconditional_tokens is None:
            next_step = "Encode them, or use a guidance scale of 1."
            raise InputError(complaint("unconditional_tokens", "be given for guidance", None, next_step))
        return replace(self, tokens=self.unconditional_tokens, unconditional_tokens=None)

    def __len__(self) -> int:
        return len(self.render_latents)


@dataclass(frozen=True)
class TrainBatch(TensorRecord):
    """B real clips, as a trainer sees them: no pixels, no files."""

    latents: Tensor
    """[B, F, C, h, w] clean latents z, as the codec gives them"""
    conditions: Conditions
    """Conditions of the same clips; ``render_latents`` may have other channels than ``latents``."""

    def __len__(self) -> int:
        return len(self.latents)
