"""A cluttered living room as a procedural scene, its furniture placed by hand and its looks by a seed."""

from __future__ import annotations

import numpy as np

from fvgen.procedural.colours import Colour, colour_of
from fvgen.procedural.rooms.scene import Scene, Texture, TexturedSolid
from fvgen.procedural.rooms.textures import Bricks, Checks, Mottled, Picture, Planks, Rug, Stripes, collage, landscape
from fvgen.procedural.solids import Light, Shape, Solid, Vector

_WOOD: tuple[tuple[Colour, Colour], ...] = (
    ((0.72, 0.52, 0.32), (0.42, 0.26, 0.13)),
    ((0.55, 0.36, 0.22), (0.25, 0.14, 0.08)),
    ((0.85, 0.72, 0.52), (0.6, 0.44, 0.28)),
)
FOCUS = (0.0, 3.1, 0.85)
"""What cameras look at: the middle of the furniture, in front of the back wall."""


def make_room(seed: int) -> Scene:
    """A room of 5 x 4.2 x 2.6 m: x to the right, y to the back wall, z up, the floor at 0."""
    rng = np.random.default_rng(seed)
    furniture = [*_bookcase(rng), *_desk(rng), *_armchair(rng), *_boxes(rng), *_plant(rng), *_on_walls(rng)]
    return Scene(
        solids=(_shell(rng), _rug(rng), *furniture),
        lights=(Light((0.0, 1.2, 2.4), 0.7), Light((2.2, 2.4, 1.7), 0.5)),
        contact=((-1.45, 3.95, 0.6), (1.0, 3.65, 0.7), (-1.6, 2.35, 0.6), (1.95, 2.55, 0.45), (0.1, 3.8, 0.3)),
    )


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 30))


def _muted(rng: np.random.Generator, low: float = 0.2, high: float = 0.85) -> Colour:
    return colour_of(rng.uniform(low, high, 3))


def _wood(rng: np.random.Generator, width: float = 0.3) -> Planks:
    light, dark = _WOOD[rng.integers(len(_WOOD))]
    return Planks(light, dark, _seed(rng), width=width, length=2.0)


def _solid(
    shape: Shape, low: Vector, high: Vector, texture: Texture, turn: float = 0.0, glow: float = 0.0
) -> TexturedSolid:
    """A solid between two corners of its bounding box (before it is turned)."""
    return TexturedSolid(Solid.between(low, high, shape, turn), (texture,), glow)


def _shell(rng: np.random.Generator) -> TexturedSolid:
    wallpaper = Mottled((0.86, 0.82, 0.72), _seed(rng), contrast=0.1, scale=0.5)
    plain = Mottled((0.8, 0.84, 0.83), _seed(rng), contrast=0.02, scale=0.6)
    brick = Bricks((0.66, 0.36, 0.27), (0.72, 0.69, 0.65), _seed(rng))
    ceiling = Mottled((0.95, 0.95, 0.93), _seed(rng), contrast=0.02)
    floor = Planks((0.7, 0.52, 0.34), (0.42, 0.27, 0.15), _seed(rng))
    walls = Solid("room", (0.0, 2.1, 1.3), (2.5, 2.1, 1.3))
    return TexturedSolid(walls, (brick, plain, plain, wallpaper, floor, ceiling))


def _rug(rng: np.random.Generator) -> TexturedSolid:
    pattern = Rug(((0.55, 0.12, 0.14), (0.86, 0.78, 0.6), (0.14, 0.2, 0.38)), (1.0, 0.65), _seed(rng))
    return _solid("box", (-0.9, 1.85, 0.0), (1.1, 3.15, 0.012), pattern, turn=0.12)


def _bookcase(rng: np.random.Generator) -> list[TexturedSolid]:
    wood = _wood(rng)
    left, right, front, back, height = -2.0, -0.9, 3.84, 4.2, 1.85
    parts = [
        _solid("box", (left, front, 0), (left + 0.03, back, height), wood),
        _solid("box", (right - 0.03, front, 0), (right, back, height), wood),
        _solid("box", (left, back - 0.02, 0), (right, back, height), wood),
    ]
    for floor in (0.05, 0.45, 0.85, 1.25, height - 0.03):
        parts.append(_solid("box", (left, front, floor), (right, back, floor + 0.03), wood))
    for floor in (0.08, 0.48, 0.88, 1.28):
        parts += _books(rng, left + 0.04, right - 0.04, back, floor)
    return parts


def _books(rng: np.random.Generator, left: float, right: float, back: float, floor: float) -> list[TexturedSolid]:
    """A row of books that leaves a random gap at its end."""
    books: list[TexturedSolid] = []
    x, stop = left, right - rng.uniform(0, 0.35)
    while (width := rng.uniform(0.025, 0.07)) + x < stop:
        tall, deep = rng.uniform(0.2, 0.33), rng.uniform(0.16, 0.25)
        if rng.random() < 0.75:
            cover: Texture = Mottled(_muted(rng, 0.1, 0.9), _seed(rng), contrast=0.35, scale=0.05)
        else:
            cover = Picture(collage(_seed(rng), 128, 48), (width / 2, tall / 2))
        books.append(_solid("box", (x, back - 0.03 - deep, floor), (x + width, back - 0.03, floor + tall), cover))
        x += width + 0.002
    return books


def _desk(rng: np.random.Generator) -> list[TexturedSolid]:
    wood, metal = _wood(rng), Mottled((0.3, 0.3, 0.33), _seed(rng))
    left, right, front, back, top = 0.35, 1.75, 3.35, 4.05, 0.74
    parts = [_solid("box", (left, front, top - 0.04), (right, back, top), wood)]
    for x in (left + 0.03, right - 0.09):
        for y in (front + 0.03, back - 0.09):
            parts.append(_solid("cylinder", (x, y, 0), (x + 0.06, y + 0.06, top - 0.04), metal))
    drawers = Checks(_muted(rng), _muted(rng), _seed(rng), size=0.17)
    parts.append(_solid("box", (right - 0.48, front + 0.06, 0.1), (right - 0.1, back - 0.05, top - 0.04), drawers))
    screen = Picture(landscape(_seed(rng)), (0.26, 0.17))
    parts += [
        _solid("box", (0.62, 3.76, top + 0.12), (1.14, 3.79, top + 0.46), screen, turn=0.15, glow=0.5),
        _solid("box", (0.6, 3.79, top + 0.1), (1.16, 3.82, top + 0.48), metal, turn=0.15),
        _solid("cylinder", (0.8, 3.7, top), (0.98, 3.88, top + 0.015), metal),
        _solid("box", (0.86, 3.8, top), (0.92, 3.82, top + 0.15), metal),
        _solid("cylinder", (0.45, 3.5, top), (0.54, 3.59, top + 0.1), Stripes(((0.8, 0.2, 0.2), (0.9, 0.9, 0.85)), 3)),
        _solid("cylinder", (1.42, 3.72, top), (1.6, 3.9, top + 0.02), metal),
        _solid("cylinder", (1.5, 3.8, top), (1.52, 3.82, top + 0.36), metal),
        _solid("ellipsoid", (1.38, 3.68, top + 0.3), (1.64, 3.94, top + 0.5), Mottled((1, 0.9, 0.65), 5), glow=0.6),
    ]
    for level in range(3):
        cover = Picture(collage(_seed(rng), 128, 128), (0.12, 0.09))
        z = top + 0.035 * level
        parts.append(_solid("box", (1.1, 3.42, z), (1.34, 3.6, z + 0.034), cover, turn=float(rng.uniform(-0.4, 0.4))))
    return parts


def _armchair(rng: np.random.Generator) -> list[TexturedSolid]:
    cloth = Stripes((_muted(rng), _muted(rng), _muted(rng, 0.5, 0.95)), _seed(rng), width=0.035)
    cushion = Checks(_muted(rng, 0.4, 0.95), _muted(rng, 0.1, 0.5), _seed(rng), size=0.06)
    return [
        _solid("box", (-2.05, 1.95, 0.08), (-1.15, 2.75, 0.42), cloth),
        _solid("box", (-2.15, 1.95, 0.42), (-1.93, 2.75, 0.95), cloth),
        _solid("box", (-2.05, 1.88, 0.1), (-1.2, 2.04, 0.6), cloth),
        _solid("box", (-2.05, 2.66, 0.1), (-1.2, 2.82, 0.6), cloth),
        _solid("ellipsoid", (-1.95, 2.15, 0.42), (-1.7, 2.55, 0.78), cushion),
    ]


def _boxes(rng: np.random.Generator) -> list[TexturedSolid]:
    """Cartons by the right wall, a ball and a bin."""
    card = [Mottled((0.72, 0.55, 0.36), _seed(rng), contrast=0.25, scale=0.12) for _ in range(2)]
    label = Picture(collage(_seed(rng), 160, 160), (0.21, 0.16))
    ball = Stripes(((0.85, 0.3, 0.15), (0.95, 0.9, 0.8), (0.15, 0.3, 0.6)), _seed(rng), width=0.06)
    return [
        _solid("box", (1.65, 2.25, 0), (2.25, 2.8, 0.42), card[0], turn=0.2),
        _solid("box", (1.75, 2.35, 0.42), (2.17, 2.75, 0.74), label, turn=-0.25),
        _solid("box", (1.85, 2.45, 0.74), (2.1, 2.65, 0.9), card[1], turn=0.5),
        _solid("ellipsoid", (0.72, 2.28, 0.012), (1.04, 2.6, 0.332), ball, turn=0.6),
        _solid("cylinder", (-0.1, 3.6, 0), (0.2, 3.9, 0.38), Checks(_muted(rng), _muted(rng), _seed(rng), size=0.05)),
    ]


def _plant(rng: np.random.Generator) -> list[TexturedSolid]:
    leaf = Mottled((0.2, 0.45, 0.16), _seed(rng), contrast=0.6, scale=0.06)
    x, y = -0.6, 3.85
    parts = [
        _solid("cylinder", (x - 0.16, y - 0.16, 0), (x + 0.16, y + 0.16, 0.3), Mottled((0.7, 0.4, 0.28), _seed(rng))),
        _solid("cylinder", (x - 0.015, y - 0.015, 0.3), (x + 0.015, y + 0.015, 0.9), Mottled((0.4, 0.3, 0.2), 1)),
    ]
    for _ in range(14):
        angle, reach, z = rng.uniform(0, 2 * np.pi), rng.uniform(0.03, 0.17), rng.uniform(0.5, 1.1)
        centre = (x + reach * np.cos(angle), y + reach * np.sin(angle), z)
        half = (rng.uniform(0.08, 0.15), rng.uniform(0.03, 0.05), rng.uniform(0.01, 0.02))
        parts.append(TexturedSolid(Solid("ellipsoid", centre, half, angle, tilt=rng.uniform(-0.9, 0.9)), (leaf,)))
    return parts


def _on_walls(rng: np.random.Generator) -> list[TexturedSolid]:
    """Two posters and a clock on the back wall, a poster on the bricks, a window in the right wall."""
    frame = Mottled((0.16, 0.14, 0.13), _seed(rng))
    white = Mottled((0.92, 0.92, 0.9), _seed(rng), contrast=0.05)
    outside = Picture(landscape(_seed(rng)), (0.62, 0.48))
    dial = Checks((0.95, 0.95, 0.9), (0.1, 0.1, 0.1), 2, 0.075)
    return [
        _solid("box", (-0.62, 4.17, 1.3), (-0.08, 4.2, 2.06), frame),
        _solid("box", (-0.58, 4.16, 1.34), (-0.12, 4.18, 2.02), Picture(collage(_seed(rng)), (0.23, 0.34))),
        _solid("box", (0.5, 4.17, 1.5), (1.1, 4.2, 1.95), frame),
        _solid("box", (0.54, 4.16, 1.54), (1.06, 4.18, 1.91), Picture(collage(_seed(rng), 160, 224), (0.26, 0.185))),
        TexturedSolid(Solid("cylinder", (0.2, 4.18, 2.1), (0.15, 0.15, 0.02), tilt=np.pi / 2), (dial,)),
        _solid("box", (-2.5, 2.9, 1.2), (-2.47, 3.5, 2.0), Picture(collage(_seed(rng)), (0.3, 0.4))),
        _solid("box", (2.47, 1.9, 0.95), (2.5, 3.26, 2.03), white),
        TexturedSolid(Solid("box", (2.475, 2.58, 1.49), (0.015, 0.62, 0.48)), (outside,), glow=0.85),
        _solid("box", (2.44, 2.56, 1.0), (2.5, 2.6, 1.98), white),
        _solid("box", (2.44, 1.96, 1.47), (2.5, 3.2, 1.51), white),
        _solid("box", (2.36, 1.85, 0.9), (2.5, 3.31, 0.95), white),
    ]
