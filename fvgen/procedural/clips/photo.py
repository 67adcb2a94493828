"""From a procedural scene's light to photos as cameras take them: exposure, contrast, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

_DARK, _USUAL, _BRIGHT = (0.05, 0.2), (0.2, 0.55), (0.5, 0.68)
"""Mean brightness of photos: dim rooms count as much as daylight."""
_SHARES = (0.22, 0.56, 0.22)
"""How often photos are dark, usual and bright."""
_GAMMAS = (0.5, 2.2)
_GAMMA_STEPS = 6
"""Fixed-point steps towards the gamma that gives the mean brightness asked for."""
_LEAST_BLUR = 0.2
"""Pixels of deviation below which blur changes nothing."""
_EXPOSURE_STEPS = {0.0: 0.25, 0.02: 0.35, 0.08: 0.25, 0.2: 0.15}
"""Deviation of the logarithm of exposure within a walk, and how often it is so large."""
_MOST_EXPOSURE = 0.45
"""Largest logarithm of a photo's exposure."""


@dataclass(frozen=True)
class Camera:
    """One walk's camera; frames of a walk share it but for exposure."""

    gain: float
    gamma: float
    saturation: float
    blur: float
    """Deviation of the lens's blur in pixels."""
    noise: float
    """Deviation of the sensor's noise at full brightness."""
    vignette: float
    """Share of light lost in the corners."""

    def develop(self, light: Tensor, exposure: Tensor, generator: torch.Generator) -> Tensor:
        """Photos [N, 3, H, W] in [0, 1] of linear ``light`` [N, 3, H, W], each channel times ``exposure`` [N, 3]."""
        height, width = light.shape[-2:]
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        falloff = 1 - self.vignette * (x**2 + y**2) / 2
        photo = (light * self.gain * exposure[..., None, None] * falloff).clamp(1e-6, 1) ** self.gamma
        grey = photo.mean(dim=1, keepdim=True)
        photo = (grey + self.saturation * (photo - grey)).clamp(0, 1)
        if self.blur > _LEAST_BLUR:
            photo = gaussian_blur(photo, [5, 5], [self.blur, self.blur])
        grain = torch.randn(photo.shape, generator=generator) * self.noise * (0.3 + 0.7 * photo.clamp_min(0).sqrt())
        return (photo + grain).clamp(0, 1)


def random_camera(light: Tensor, rng: np.random.Generator) -> Camera:
    """A camera whose photos of ``light`` [N, 3, H, W] have a mean brightness drawn from dark to bright."""
    low, high = (_DARK, _USUAL, _BRIGHT)[int(rng.choice(3, p=_SHARES))]
    wanted = rng.uniform(low, high)
    highlight = float(light.flatten()[:: max(light.numel() // 50000, 1)].quantile(0.99))
    # Photos use their range: highlights come out white, or short of it in dim places, and gamma sets the mean.
    white = rng.uniform(0.7, 1.3) if low > _DARK[0] else rng.uniform(0.25, 1.2)
    gain, gamma = white / max(highlight, 1e-3), 1.0
    for _ in range(_GAMMA_STEPS):
        # Summed by NumPy: torch's sums depend on the number of threads.
        mean = float(((light * gain).clamp(1e-6, 1) ** gamma).numpy().mean(dtype=np.float64))
        gamma = float(np.clip(gamma * np.log(wanted) / np.log(min(max(mean, 1e-3), 0.98)), *_GAMMAS))
    return Camera(
        gain=gain,
        gamma=gamma,
        saturation=rng.uniform(0.45, 1.0),
        blur=max(rng.uniform(-0.3, 0.8), 0.0),
        noise=rng.uniform(0, 0.008),
        vignette=max(rng.uniform(-0.2, 0.3), 0.0),
    )


def exposures(ends: tuple[Tensor, Tensor], position: Tensor) -> Tensor:
    """[F, 3] exposures of frames at ``position`` [F] in [0, 1] between two photos' exposures [3] each."""
    first, last = (end.log() for end in ends)
    return (first + position[:, None] * (last - first)).exp()


def random_exposures(count: int, rng: np.random.Generator) -> Tensor:
    """[count, 3] exposure and white balance of photos of one walk: mostly steady, sometimes stepping by a third."""
    step = rng.choice(list(_EXPOSURE_STEPS), p=list(_EXPOSURE_STEPS.values()))
    brightness = rng.normal(0, step, (count, 1))
    balance = rng.normal(0, 0.2 * step, (count, 3))
    return torch.from_numpy(np.exp((brightness + balance).clip(-_MOST_EXPOSURE, _MOST_EXPOSURE))).float()
