"""The networks of `mixture_2d`: a teacher whose score is exact, and perceptrons to distil it with.

Every point of the plane is a clip of one frame with two channels and one pixel, so these stand where video networks do.
"""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from fvgen.diffusion.schedule import NoiseSchedule

MEANS = torch.tensor([[-1.2, -1.2], [1.2, -1.2], [-1.2, 1.2], [1.2, 1.2]])
WEIGHTS = torch.tensor([0.3, 0.3, 0.3, 0.1])
DEVIATION = 0.25


class ExactTeacher(nn.Module):
    """The mixture's v at every noise level, with features for a discriminator."""

    frequencies: Tensor

    def __init__(self, schedule: NoiseSchedule, features: int = 24) -> None:
        super().__init__()
        self.schedule = schedule
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", 1.5 * torch.randn(2, features, generator=generator))

    @property
    def width(self) -> int:
        """Channels of the features."""
        return 2 * self.frequencies.shape[1] + 2 * 2 + len(WEIGHTS) + 8 + 1

    def seen(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The noised points [B, 2] and timesteps [B] that features [B, C] were made of."""
        first = 2 * self.frequencies.shape[1]
        return features[:, first : first + 2], (features[:, -1] * 1000).round().long()

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor, fps: Tensor, **_: Any) -> SimpleNamespace:
        """As a `fvgen.models.unet_3d.VideoUNet` of clips [B, 1, 2, 1, 1]."""
        x = sample[:, 0, :, 0, 0]
        signal = self.schedule.sqrt_alphas_cumprod[timestep][:, None]
        noise = self.schedule.sqrt_one_minus_alphas_cumprod[timestep][:, None]
        scaled = signal * self.schedule.scale_arr[timestep][:, None]
        variance = (scaled * DEVIATION) ** 2 + noise**2
        away = x[:, None] - scaled[:, None] * MEANS  # [B, modes, 2]
        which = (WEIGHTS.log() - away.square().sum(-1) / (2 * variance)).softmax(-1)
        z = (which[..., None] * (MEANS + (scaled * DEVIATION**2 / variance)[:, None] * away)).sum(1)
        x0 = self.schedule.scale_arr[timestep][:, None] * z
        v = (signal * x - x0) / noise
        waves = x @ self.frequencies
        seen = torch.cat([waves.sin(), waves.cos(), x, z, which, _time_code(timestep), timestep[:, None] / 1000], dim=1)
        return SimpleNamespace(sample=v.reshape(sample.shape), middle=seen[:, None, :, None, None])


class Layers(nn.Module):
    """R perceptrons side by side: a batch holds as many points of each run, run after run."""

    def __init__(self, runs: int, *widths: int) -> None:
        super().__init__()
        pairs = list(pairwise(widths))
        self.weights = nn.ParameterList(torch.randn(runs, i, o) * i**-0.5 for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(runs, 1, o) for _, o in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """[R*B, in] -> [R*B, out]."""
        x = x.unflatten(0, (len(self.weights[0]), -1))
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, nn.functional.silu(x) if number else x, weight)
        return x.flatten(0, 1)


class Perceptron(nn.Module):
    """v of a point: student, fake score, and the diffusion model both start from."""

    def __init__(self, runs: int) -> None:
        super().__init__()
        self.layers = Layers(runs, 2 + 8, 64, 64, 64, 2)

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor, fps: Tensor, **_: Any) -> SimpleNamespace:
        """As a `fvgen.models.unet_3d.VideoUNet` of clips [B, 1, 2, 1, 1]."""
        v = self.layers(torch.cat([sample[:, 0, :, 0, 0], _time_code(timestep)], dim=1))
        return SimpleNamespace(sample=v.reshape(sample.shape))


class PointDiscriminator(nn.Module):
    """The discriminator's head: a perceptron in place of convolutions over a single pixel."""

    def __init__(self, runs: int, width: int) -> None:
        super().__init__()
        self.layers = Layers(runs, width, 64, 64, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits [B] of features [B, 1, C, 1, 1]."""
        return self.layers(features[0][:, 0, :, 0, 0])[:, 0]


def _time_code(t: Tensor) -> Tensor:
    angles = t[:, None] / 1000 * torch.pi * 2.0 ** torch.arange(-1, 3)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
