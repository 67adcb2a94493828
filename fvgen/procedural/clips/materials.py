"""What the surfaces of training clips are made of, drawn from a scene's palette."""

from __future__ import annotations

import numpy as np

from fvgen.procedural import kernels
from fvgen.procedural.clips.pictures import palette, pictures
from fvgen.procedural.clips.scene import SceneBuilder
from fvgen.procedural.colours import Colour, colour_of

_PICTURES = 10
"""Pictures in a scene's atlas."""


class Materials:
    """Random materials of one scene, in sizes that suit it.

    Args:
        builder: where they go.
        unit: metres of a usual thing in the scene, 1 in a room; patterns are that much larger or smaller.
    """

    def __init__(self, builder: SceneBuilder, unit: float = 1.0) -> None:
        self.builder, self.unit = builder, unit
        self.colours = palette(builder.rng)
        builder.pictures += pictures(builder.rng, self.colours, _PICTURES)

    def colour(self, darkest: float = 0.0) -> Colour:
        """One of the palette, a little varied."""
        rng = self.builder.rng
        base = np.array(self.colours[int(rng.integers(len(self.colours)))])
        return colour_of(base * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, 3), darkest)

    def plain(self, glow: float = 0.0, colour: Colour | None = None) -> int:
        """Next to no texture: what stereo cannot match."""
        b, one = self.builder, colour or self.colour()
        return b.material(
            kernels.PLAIN,
            one,
            one,
            contrast=b.uniform(0, 0.04),
            grain=b.uniform(0.5, 2) * self.unit,
            glow=glow,
            **self._gloss(0.25),
        )

    def rough(self) -> int:
        """Noise of many sizes in two colours."""
        b = self.builder
        first = self.colour()
        second = self.colour() if b.chance(0.4) else _scaled(first, [b.uniform(0.4, 0.9) for _ in range(3)])
        size = b.uniform(0.08, 0.8) * self.unit
        return b.material(kernels.NOISE, first, second, scale=size, **self._grain(), **self._gloss(0.15))

    def laid(self, *patterns: int, size: float) -> int:
        """Bricks, tiles, stripes or planks of about ``size`` metres."""
        b = self.builder
        pattern = int(b.rng.choice(patterns))
        first = self.colour(0.1)
        second = _scaled(first, b.uniform(0.4, 1.5))
        second = self.colour() if b.chance(0.35) else second
        size *= b.uniform(0.6, 1.6)
        return b.material(pattern, first, second, scale=size, **self._grain(), **self._gloss(0.3))

    def picture(self, repeat: float = 0.0, glow: float = 0.0) -> int:
        """A picture of the atlas, stretched over a face or repeated every ``repeat`` metres."""
        b = self.builder
        image = float(b.rng.integers(len(b.pictures)))
        look = {"image": image, "image_size": repeat, "glow": glow} | self._grain(0.1) | self._gloss(0.3)
        return b.material(kernels.PICTURE, (1, 1, 1), (1, 1, 1), **look)

    def wall(self) -> int:
        """Often blank, else papered, bricks, boards or worn plaster."""
        b = self.builder
        kind = b.rng.choice(5, p=[0.34, 0.18, 0.16, 0.12, 0.2])
        if kind == 0:
            return self.plain()
        if kind == 1:
            return self.picture(repeat=b.uniform(0.5, 1.6) * self.unit)
        if kind == 4:
            return self.rough()
        return self.laid((kernels.BRICKS, kernels.PLANKS)[int(kind) - 2], size=0.3 * self.unit)

    def floor(self) -> int:
        """Planks, tiles, carpet, or bare."""
        b = self.builder
        kind = b.rng.choice(4, p=[0.4, 0.2, 0.2, 0.2])
        if kind == 0:
            return self.laid(kernels.PLANKS, kernels.CHECKS, size=0.2 * self.unit)
        if kind == 1:
            return self.picture(repeat=b.uniform(0.4, 1.2) * self.unit)
        return self.rough() if kind == 2 else self.plain()

    def ground(self) -> int:
        """Outdoors: earth, gravel, grass or paving."""
        b = self.builder
        if b.chance(0.25):
            return self.laid(kernels.BRICKS, kernels.CHECKS, size=0.6 * self.unit)
        return self.rough()

    def thing(self) -> int:
        """Any material for furniture and clutter."""
        b = self.builder
        kind = b.rng.choice(4, p=[0.3, 0.27, 0.18, 0.25])
        if kind == 0:
            return self.plain()
        if kind == 1:
            return self.rough()
        if kind == 2:
            patterns = (kernels.CHECKS, kernels.STRIPES, kernels.PLANKS, kernels.BRICKS)
            return self.laid(*patterns, size=0.12 * self.unit)
        return self.picture(repeat=b.uniform(0.2, 0.7) * self.unit if b.chance(0.4) else 0.0)

    def _grain(self, most: float = 0.3) -> dict[str, float]:
        b = self.builder
        return {"contrast": b.uniform(0, most), "grain": self.unit * 10 ** b.uniform(-2, -0.5)}

    def _gloss(self, probability: float) -> dict[str, float]:
        b = self.builder
        shiny = b.chance(probability)
        return {"specular": b.uniform(0.05, 0.5) if shiny else 0.0, "shininess": 10 ** b.uniform(0.8, 2.0)}


def _scaled(colour: Colour, by: float | list[float]) -> Colour:
    """A colour times a number, or each of its channels times its own."""
    return colour_of(np.array(colour) * np.array(by))
