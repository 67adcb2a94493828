"""Seeded textures for procedural scenes: each maps surface coordinates in metres to a colour."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fvgen.procedural import kernels
from fvgen.procedural.colours import Colour, blend

_OCTAVE_AMPLITUDE = 0.6
"""Amplitude of each octave of fractal noise over that of the one before."""


@lru_cache(maxsize=256)
def _lattice(seed: int) -> np.ndarray:
    """[256, 256] uniform random values."""
    return np.random.default_rng(seed).random((kernels.LATTICE, kernels.LATTICE), dtype=np.float32)


def value_noise(uv: np.ndarray, seed: int) -> np.ndarray:
    """[P] smooth noise in [0, 1] with one random value at each whole coordinate of ``uv`` [P, 2]; repeats every 256."""
    noise = np.empty(len(uv))
    kernels.value_noise(_lattice(seed), np.ascontiguousarray(uv), noise)
    return noise


def fractal_noise(uv: np.ndarray, seed: int, scale: float, octaves: int = 4) -> np.ndarray:
    """[P] in [0, 1]: octaves of value noise, the coarsest with features of ``scale`` metres, each next half of it."""
    total, weight, amplitude = np.zeros(len(uv)), 0.0, 1.0
    for octave in range(octaves):
        total += amplitude * value_noise(uv * (2**octave / scale) + 17.3 * octave, seed + octave)
        weight += amplitude
        amplitude *= _OCTAVE_AMPLITUDE
    return total / weight


@dataclass(frozen=True)
class Mottled:
    """One colour with noise of several octaves: plaster, cardboard, cloth."""

    colour: Colour
    seed: int
    contrast: float = 0.2
    scale: float = 0.3
    octaves: int = 5

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        noise = fractal_noise(uv, self.seed, self.scale, self.octaves)
        return np.array(self.colour) * (1 + 2 * self.contrast * (noise - 0.5))[:, None]


@dataclass(frozen=True)
class Planks:
    """Boards along u, each with its own tint and grain; lengths in metres."""

    light: Colour
    dark: Colour
    seed: int
    width: float = 0.12
    length: float = 1.1
    side_gap = 0.003
    end_gap = 0.005
    gap_shade = 0.45
    """Share of the light that comes out of a gap."""

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        row = np.floor(uv[:, 1] / self.width)
        along = uv[:, 0] / self.length + 0.37 * row
        board = np.stack([np.floor(along), row], axis=1)
        tint = value_noise(board, self.seed)
        grain = fractal_noise(uv * np.array([1.0, 9.0]) + 3.1 * board[:, ::-1], self.seed + 9, 0.25, 4)
        colour = blend(self.light, self.dark, 0.45 * tint + 0.55 * grain)
        across, end = uv[:, 1] / self.width - row, along - np.floor(along)
        gap = (np.minimum(across, 1 - across) * self.width < self.side_gap) | (end * self.length < self.end_gap)
        return colour * np.where(gap, self.gap_shade, 1.0)[:, None]


@dataclass(frozen=True)
class Bricks:
    """Running bond with mortar; lengths in metres."""

    colour: Colour
    mortar: Colour
    seed: int
    size: tuple[float, float] = (0.24, 0.08)
    joint = 0.006
    """Half the width of the mortar."""

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        row = np.floor(uv[:, 1] / self.size[1])
        along = uv[:, 0] / self.size[0] + 0.5 * (row % 2)
        brick = np.stack([np.floor(along), row], axis=1)
        tint = 0.6 + 0.7 * value_noise(brick, self.seed)
        rough = 0.8 + 0.4 * fractal_noise(uv, self.seed + 5, 0.06, 4)
        x, y = (along - brick[:, 0]) * self.size[0], uv[:, 1] - row * self.size[1]
        joint = np.minimum(np.minimum(x, self.size[0] - x), np.minimum(y, self.size[1] - y)) < self.joint
        return np.where(joint[:, None], np.array(self.mortar), np.array(self.colour) * tint[:, None]) * rough[:, None]


@dataclass(frozen=True)
class Checks:
    """Two colours in squares, worn a little."""

    first: Colour
    second: Colour
    seed: int
    size: float = 0.15

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        odd = np.floor(uv / self.size).sum(axis=1) % 2
        return blend(self.first, self.second, odd) * (0.75 + 0.5 * fractal_noise(uv, self.seed, 0.08, 4))[:, None]


@dataclass(frozen=True)
class Stripes:
    """Bands of random colours along v, each of its own width."""

    colours: tuple[Colour, ...]
    seed: int
    width: float = 0.05

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        bent = uv[:, 0] / self.width + 0.35 * np.sin(uv[:, 0] / self.width * 2.1)
        pick = np.random.default_rng(self.seed).permutation(97)[np.floor(bent).astype(int) % 97] % len(self.colours)
        weave = 0.8 + 0.4 * fractal_noise(uv, self.seed + 1, 0.03, 3)
        return np.array(self.colours)[pick] * weave[:, None]


@dataclass(frozen=True)
class Rug:
    """Nested borders around a field of diamonds; lengths in metres."""

    colours: tuple[Colour, Colour, Colour]
    half_size: tuple[float, float]
    seed: int
    diamond = 0.28
    borders = (0.06, 0.10, 0.13)
    """Where each of the borders ends, from the edge."""

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        edge = np.min(np.array(self.half_size) - np.abs(uv), axis=1)
        diamond = np.abs((uv[:, 0] / self.diamond) % 1 - 0.5) + np.abs((uv[:, 1] / self.diamond) % 1 - 0.5)
        index = np.where(diamond < 0.25, 2, np.where(diamond < 0.36, 0, 1))
        outer, middle, inner = (edge < border for border in self.borders)
        index = np.where(outer, 0, np.where(middle, 2, np.where(inner, 0, index)))
        return np.array(self.colours)[index] * (0.7 + 0.6 * fractal_noise(uv, self.seed, 0.05, 4))[:, None]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image stretched over a surface of that half size, sampled bilinearly: posters, screens, a view outside."""

    image: np.ndarray
    """[H, W, 3] in [0, 1]."""
    half_size: tuple[float, float]

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        height, width = self.image.shape[:2]
        x = (0.5 + 0.5 * uv[:, 0] / self.half_size[0]) * width - 0.5
        y = (0.5 - 0.5 * uv[:, 1] / self.half_size[1]) * height - 0.5
        x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
        left, top = x.astype(int), y.astype(int)
        a, b = (x - left)[:, None], (y - top)[:, None]
        upper = self.image[top, left] * (1 - a) + self.image[top, left + 1] * a
        lower = self.image[top + 1, left] * (1 - a) + self.image[top + 1, left + 1] * a
        return upper * (1 - b) + lower * b


def collage(seed: int, height: int = 256, width: int = 192) -> np.ndarray:
    """[H, W, 3] abstract poster: discs, bars and rings of random colours on a tinted ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.broadcast_to(rng.uniform(0.55, 0.95, 3), (height, width, 3)).copy()
    for _ in range(22):
        centre_x, centre_y, radius = (*rng.uniform(0, 1, 2), rng.uniform(0.03, 0.2))
        kind, turn = rng.integers(3), rng.uniform(0, np.pi)
        dx, dy = x - centre_x * width / max(height, width), y - centre_y * height / max(height, width)
        along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        distance = np.hypot(dx, dy)
        inside = (
            distance < radius,
            (np.abs(along) < 1.6 * radius) & (np.abs(across) < 0.3 * radius),
            np.abs(distance - radius) < 0.2 * radius,
        )[kind]
        image[inside] = rng.uniform(0.05, 0.95, 3)
    return image


_SKY: Colour = (0.62, 0.8, 1.0)
_CLOUD: Colour = (1.0, 1.0, 1.0)
_HILLS: tuple[tuple[float, Colour], ...] = ((0.62, (0.45, 0.58, 0.5)), (0.78, (0.3, 0.45, 0.22)))
"""How far down the picture each line of hills begins, and its colour; the nearer ones last."""


def landscape(seed: int, height: int = 192, width: int = 256) -> np.ndarray:
    """[H, W, 3] a bright view outside: sky with clouds above two lines of hills."""
    y, x = np.mgrid[0:height, 0:width] / height
    flat = np.stack([x.ravel(), y.ravel()], axis=1)
    image = blend(_SKY, _CLOUD, fractal_noise(flat, seed, 0.3, 5).reshape(height, width))
    for depth, colour in _HILLS:
        line = depth + 0.16 * (fractal_noise(np.stack([x[0], 0 * x[0] + depth], axis=1), seed + 3, 0.4, 4) - 0.5)
        leaves = 0.8 + 0.4 * fractal_noise(flat, seed + 7, 0.06, 4).reshape(height, width, 1)
        image = np.where((y > line)[..., None], np.array(colour) * leaves, image)
    return image
