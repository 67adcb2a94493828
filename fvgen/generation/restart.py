"""Sampling that starts from pictures in place of noise alone: for views that are drawn once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.types import TensorRecord

_SHARE_OF_STEPS = 4
"""The last of so many parts of a sampler's steps are run: its low levels of noise."""


@dataclass(frozen=True)
class Restart(TensorRecord):
    """Pictures of F frames, and how much of them is known."""

    rgb: Tensor
    """[F, 3, H, W] in [0, 1]"""
    opacity: Tensor
    """[F, 1, H, W] in [0, 1]: 0 leaves a pixel to the noise"""

    def __getitem__(self, frames: Tensor) -> Restart:
        """The given frames [L] (int64) alone, in that order."""
        return Restart(self.rgb[frames], self.opacity[frames])

    def with_known(self, frames: Tensor, known: Tensor) -> Restart:
        """The same with frames [F, 3, H, W] that are known [F] bool in their places."""
        here = known.to(self.rgb.device)[:, None, None, None]
        return Restart(torch.where(here, frames.to(self.rgb), self.rgb), self.opacity.masked_fill(here, 1.0))

    def latents(
        self,
        encode: Callable[[Tensor], Tensor],
        schedule: NoiseSchedule,
        timestep: int,
        randn_like: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """[1, F, C, h, w] at a timestep: latents of the pictures, mixed with noise by opacity, and noise of that level.

        Both mixtures keep the variance of latents that have unit variance.

        Args:
            encode: [1, F, 3, H, W] -> [1, F, C, h, w]
            schedule: of the network.
            timestep: whose level of noise the latents get.
            randn_like: source of noise.
        """
        z = encode(self.rgb[None])
        height, width = z.shape[-2:]
        opacity = functional.adaptive_avg_pool2d(self.opacity, (height, width))[None].clamp(0, 1).to(z)
        z = opacity * z + (1 - opacity**2).sqrt() * randn_like(z)
        return schedule.add_noise(schedule.scale_latents(z, timestep), randn_like(z), timestep)


def low_levels(timesteps: list[int]) -> list[int]:
    """The timesteps of a sampler, largest first, that are run from a picture on: its last quarter, at least one."""
    return timesteps[-max(len(timesteps) // _SHARE_OF_STEPS, 1) :]
