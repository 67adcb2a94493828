"""Pictures that cover the surfaces of training clips: posters, signs, clutter, leaves, rough matter."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from fvgen.procedural.colours import Colour, colour_of
from fvgen.procedural.solids import rotation_z

SIDE = 128
"""Pixels along a picture's side; a power of 2."""

_SUBPIXELS, _SHIFT = 8, 3
"""Parts of a pixel in OpenCV's whole-number coordinates, and the power of 2 that they are."""
_LEAVES = 900
"""Leaves of one pixel's size in a picture of foliage; larger ones are fewer."""

_HUES = np.array([0.02, 0.07, 0.11, 0.17, 0.3, 0.45, 0.58, 0.65, 0.78, 0.93])
_HUE_SHARES = np.array([0.13, 0.22, 0.2, 0.07, 0.1, 0.05, 0.12, 0.06, 0.02, 0.03])
"""Skin, wood, brick, stone and sand before leaves and sky; violet and magenta are rare."""


def palette(rng: np.random.Generator, count: int = 8) -> list[Colour]:
    """Colours that go together: few hues, mostly muted, from dark to light, as in rooms and streets."""
    hues = rng.choice(_HUES, p=_HUE_SHARES) + rng.normal(0, 0.05, count)
    other = rng.random(count) < 0.35
    hues[other] = rng.choice(_HUES, int(other.sum()), p=_HUE_SHARES) + rng.normal(0, 0.04, int(other.sum()))
    saturation = rng.beta(1.3, 3.0, count) * rng.uniform(0.4, 1.0)
    vivid = rng.random(count) < 0.12
    saturation[vivid] = rng.uniform(0.6, 0.95, int(vivid.sum()))
    value = rng.beta(1.6, 1.4, count) * 0.85 + 0.08
    colours = zip(hues % 1, saturation, value, strict=True)
    return [colorsys.hsv_to_rgb(float(h), float(s), float(v)) for h, s, v in colours]


def pictures(rng: np.random.Generator, colours: Sequence[Colour], count: int) -> list[np.ndarray]:
    """``count`` pictures [SIDE, SIDE, 3] float32 in [0, 1] of random kinds."""
    return [_KINDS[int(rng.integers(len(_KINDS)))](rng, colours) for _ in range(count)]


def fractal_image(rng: np.random.Generator, channels: int = 1, falloff: float = 1.0, side: int = SIDE) -> np.ndarray:
    """[side, side, channels] periodic noise of amplitude 1 / frequency^falloff, mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * side
    amplitude = np.where(frequency > 0, 1 / np.maximum(frequency, 1) ** falloff, 0)[..., None]
    phase = np.exp(2j * np.pi * rng.random((*frequency.shape, channels)))
    noise = np.fft.irfft2(amplitude * phase, (side, side), axes=(0, 1))
    return (noise / noise.std(axis=(0, 1))).astype(np.float32)


def dead_leaves(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """Things of all sizes on top of each other: discs, bars and polygons whose number falls with size squared."""
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = _shaded(rng, colours)
    smallest = rng.uniform(2, 6)
    for _ in range(int(rng.integers(40, 160))):
        size = min(smallest / np.sqrt(rng.uniform(0.004, 1)), 40)
        centre, turn = rng.uniform(0, SIDE, 2), float(rng.uniform(0, 2 * np.pi))
        corners = int(rng.choice([3, 4, 4, 4, 6, 16]))
        angle = turn + 2 * np.pi * np.arange(corners) / corners
        stretch = np.array([1.0, rng.uniform(0.25, 1.0)])
        outline = size * np.stack([np.cos(angle), np.sin(angle)], axis=1) * stretch
        outline = _SUBPIXELS * (outline @ rotation_z(turn)[:2, :2].T + centre)
        cv2.fillPoly(image, [outline.astype(np.int32)], _shaded(rng, colours), cv2.LINE_AA, _SHIFT)
    return image


def leaves(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """Foliage, gravel or litter: many small ovals over darkness, one range of colour."""
    base = np.array(colorsys.hsv_to_rgb(rng.uniform(0.08, 0.38), rng.uniform(0.1, 0.7), 1.0))
    image = np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = 0.12 * base
    size = rng.uniform(2.5, 8)
    for i in range(int(_LEAVES / size)):
        centre = tuple(int(c * _SUBPIXELS) for c in rng.uniform(0, SIDE, 2))
        axes = (int(_SUBPIXELS * size * rng.uniform(0.6, 1.4)), int(_SUBPIXELS * size * rng.uniform(0.25, 0.6)))
        colour = (base * (0.2 + 0.75 * i * size / _LEAVES) * rng.uniform(0.6, 1.3) + rng.normal(0, 0.03, 3)).clip(0, 1)
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 360)), 0, 360, colour.tolist(), -1, cv2.LINE_AA, _SHIFT)
    return image


def sign(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """Print on a ground: lines of letters of several sizes, a frame."""
    ground, ink = np.array(_shaded(rng, colours)), np.array(_shaded(rng, colours))
    if abs(ground.mean() - ink.mean()) < 0.3:
        ink = ground - 0.6 if ground.mean() > 0.5 else ground + 0.6
    print_ = np.zeros((SIDE, SIDE), np.uint8)  # OpenCV 5 writes on bytes only
    y = rng.uniform(10, 24)
    while y < SIDE - 4:
        height = rng.uniform(0.25, 1.3)
        text = "".join(chr(int(c)) for c in rng.integers(65, 123, int(SIDE / (18 * height))))
        where = (int(rng.uniform(2, 12)), int(y))
        cv2.putText(
            print_, text, where, cv2.FONT_HERSHEY_SIMPLEX, height, (255.0,), max(int(2 * height), 1), cv2.LINE_AA
        )
        y += 24 * height + rng.uniform(4, 16)
    image = (ground + print_[..., None] / 255 * (ink.clip(0, 1) - ground)).astype(np.float32)
    cv2.rectangle(image, (2, 2), (SIDE - 3, SIDE - 3), _shaded(rng, colours), int(rng.integers(1, 5)))
    return image


def painting(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """Soft patches of the palette with rough detail: marble, worn plaster, fur, a picture out of focus."""
    falloff = rng.uniform(0.9, 1.9)
    share = 1 / (1 + np.exp(-rng.uniform(1, 5) * fractal_image(rng, 2, falloff)))
    first, second, third = (np.array(_shaded(rng, colours)) for _ in range(3))
    image = first + share[..., :1] * (second - first) + share[..., 1:] * (third - first) * rng.uniform(0, 1)
    return (image * (1 + rng.uniform(0.02, 0.15) * fractal_image(rng, 1, 0.7))).clip(0, 1).astype(np.float32)


def panes(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """A window: dark or bright panes with a soft reflection, behind bars."""
    glass = 0.3 * painting(rng, colours) + rng.uniform(0, 0.6)
    bar, wide = _shaded(rng, colours), int(rng.integers(2, 6))
    columns, rows = rng.integers(1, 4, 2)
    for i in range(columns + 1):
        cv2.line(glass, (i * (SIDE - 1) // columns, 0), (i * (SIDE - 1) // columns, SIDE), bar, wide)
    for j in range(rows + 1):
        cv2.line(glass, (0, j * (SIDE - 1) // rows), (SIDE, j * (SIDE - 1) // rows), bar, wide)
    return glass.clip(0, 1)


def flowers(rng: np.random.Generator, colours: Sequence[Colour]) -> np.ndarray:
    """Wallpaper or cloth: a few blossoms on a plain ground, made to repeat."""
    ground, image = _shaded(rng, colours), np.empty((SIDE, SIDE, 3), np.float32)
    image[:] = ground
    for _ in range(int(rng.integers(3, 9))):
        x, y = rng.uniform(0, SIDE, 2)
        colour, size, petals = _shaded(rng, colours), rng.uniform(5, 18), int(rng.integers(4, 9))
        for ring in (1.0, 0.55):
            shade = tuple(float(c * (0.75 + 0.5 * (1 - ring))) for c in colour)
            for k in range(petals):
                angle = 2 * np.pi * k / petals + ring
                px, py = x + ring * size * np.cos(angle), y + ring * size * np.sin(angle)
                for sx in (-SIDE, 0, SIDE):
                    for sy in (-SIDE, 0, SIDE):
                        cv2.circle(
                            image, (int(px + sx), int(py + sy)), int(0.6 * ring * size) + 1, shade, -1, cv2.LINE_AA
                        )
    return image


def _shaded(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """One of the colours, darker or brighter."""
    return colour_of(np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.6, 1.3))


_KINDS: tuple[Callable[[np.random.Generator, Sequence[Colour]], np.ndarray], ...] = (
    dead_leaves, dead_leaves, leaves, sign, painting, painting, panes, flowers,
)  # fmt: skip
