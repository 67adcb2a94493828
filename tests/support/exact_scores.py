"""Networks and a discriminator that are exact: densities of one number that are Gaussian mixtures at every noise level.

z ~ mixture, x_t = sqrt(ᾱ)·s·z + sqrt(1-ᾱ)·ε is again a mixture, whose density and posterior mean are written down here
from the definition, apart from everything in the library but the schedule's tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.schedule import NoiseSchedule


@dataclass
class Mixture:
    """Mixture of Gaussians, as lists over its modes."""

    weights: Tensor
    means: Tensor
    deviations: Tensor

    def log_density(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """log p [...] of ``signal·z + noise·ε`` at x [...]; signal and noise broadcast to x."""
        mean = signal[..., None] * self.means
        variance = (signal[..., None] * self.deviations) ** 2 + noise[..., None] ** 2
        logs = -((x[..., None] - mean) ** 2) / (2 * variance) - 0.5 * torch.log(2 * torch.pi * variance)
        return torch.logsumexp(self.weights.log() + logs, dim=-1)

    def posterior_mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """E[z | signal·z + noise·ε = x]: each mode's, weighted by how likely it is the one; also where signal is 0."""
        mean, prior = signal[..., None] * self.means, (signal[..., None] * self.deviations) ** 2
        variance = prior + noise[..., None] ** 2
        away = x[..., None] - mean
        responsibility = (self.weights.log() - away**2 / (2 * variance) - 0.5 * variance.log()).softmax(-1)
        within = self.means + signal[..., None] * self.deviations**2 / variance * away
        return (responsibility * within).sum(-1)


def gaussian(mean: Tensor | float, deviation: Tensor | float) -> Mixture:
    return Mixture(torch.ones(1), torch.as_tensor(mean).reshape(1), torch.as_tensor(deviation).reshape(1))


def levels(schedule: NoiseSchedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sqrt(ᾱ), sqrt(1-ᾱ) and scale at t [B]."""
    return schedule.sqrt_alphas_cumprod[t], schedule.sqrt_one_minus_alphas_cumprod[t], schedule.scale_arr[t]


class Exact(nn.Module):
    """The video network of a mixture: v from the exact x0. Token 1 is conditional, 0 not."""

    def __init__(self, schedule: NoiseSchedule, conditional: Mixture, unconditional: Mixture | None = None) -> None:
        super().__init__()
        self.schedule = schedule
        self.mixtures = {1: conditional, 0: unconditional}

    def forward(self, sample, timestep, context, fps=None, return_features="none", middle_only=False):
        x = sample[:, 0, 0, 0, 0]
        mixture = self.mixtures[int(context.flatten()[0])]
        signal, noise, scale = levels(self.schedule, timestep)
        x0 = scale * mixture.posterior_mean(x, signal * scale, noise)
        v = (signal * x - x0) / noise
        features = torch.stack([x, timestep.to(x)], dim=1)[:, None, :, None, None]
        return SimpleNamespace(sample=v.reshape(sample.shape), middle=features)


class ExactLogit(nn.Module):
    """log p_real / p_fake at the noise level in the features."""

    def __init__(self, schedule: NoiseSchedule, real: Mixture, fake: Mixture) -> None:
        super().__init__()
        self.schedule, self.real, self.fake = schedule, real, fake

    def forward(self, features):
        x, t = features[0][:, 0, :, 0, 0].unbind(1)
        signal, noise, scale = levels(self.schedule, t.long())
        return self.real.log_density(x, signal * scale, noise) - self.fake.log_density(x, signal * scale, noise)


class AffineStudent(nn.Module):
    """z = a + b·x_T in one step from the last timestep, where v = -x0."""

    def __init__(self, schedule: NoiseSchedule, a: float, b: float) -> None:
        super().__init__()
        self.scale = float(schedule.scale_arr[-1])
        self.a, self.b = nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))

    def forward(self, sample, timestep, context, fps=None, **_):
        assert (timestep == 999).all()
        return SimpleNamespace(sample=-self.scale * (self.a + self.b * sample))


class OneStream:
    """The interface of `BatchRandom` for a hundred thousand clips at once."""

    def __init__(self, seed: int, clips: int) -> None:
        self._generator, self._clips = torch.Generator().manual_seed(seed), clips

    def __len__(self) -> int:
        return self._clips

    def randn_like(self, x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=self._generator)

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, (self._clips, *shape), generator=self._generator)

    def shared_randint(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=self._generator))


def numbers(clips: int) -> TrainBatch:
    """A batch whose clips are single numbers; only their count matters."""
    conditions = Conditions(
        torch.zeros(clips, 1, 0, 1, 1), torch.ones(clips, 1, 1), torch.full((clips,), 10), torch.zeros(clips, 1, 1)
    )
    return TrainBatch(torch.zeros(clips, 1, 1, 1, 1), conditions)
