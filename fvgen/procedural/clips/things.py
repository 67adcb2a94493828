"""The things that stand in the scenes of training clips: furniture, plants, huts, sculpture, clutter.

Each function adds one at a place on the ground; sizes are metres times ``unit``.
"""

from __future__ import annotations

import math

import numpy as np

from fvgen.procedural.clips.materials import Materials
from fvgen.procedural.clips.scene import SceneBuilder
from fvgen.procedural.solids import Shape, Vector

_ROUND: tuple[Shape, ...] = ("ellipsoid", "cylinder")


def clutter(
    b: SceneBuilder, m: Materials, x: tuple[float, float], y: tuple[float, float], z: float, unit: float, count: int
) -> None:
    """Things of all sizes on a plane: the number of things falls with the square of their size."""
    kinds = [m.thing() for _ in range(min(count, 6))]
    for _ in range(count):
        size = min(0.05 * unit / math.sqrt(b.uniform(0.01, 1)), 0.4 * unit)
        half: Vector = (size * b.uniform(0.3, 1), size * b.uniform(0.3, 1), size * b.uniform(0.2, 1.3))
        shape = b.pick("box", "box", *_ROUND)
        b.solid(shape, (b.uniform(*x), b.uniform(*y), z + half[2]), half, b.pick(*kinds), turn=b.uniform(0, 3))


def table(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """A table with clutter on it."""
    x, y, _ = at
    half_x, half_y, top = b.uniform(0.3, 0.9) * unit, b.uniform(0.25, 0.5) * unit, b.uniform(0.4, 0.8) * unit
    wood, leg = m.thing(), m.plain()
    b.box((x - half_x, y - half_y, top - 0.04 * unit), (x + half_x, y + half_y, top), wood)
    for i in (-1, 1):
        for j in (-1, 1):
            b.solid(
                "cylinder",
                (x + 0.9 * i * half_x, y + 0.9 * j * half_y, top / 2),
                (0.03 * unit, 0.03 * unit, top / 2),
                leg,
            )
    clutter(b, m, (x - half_x, x + half_x), (y - half_y, y + half_y), top, 0.7 * unit, b.number(1, 9))


def shelf(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """Boards with books on them, a back and two sides."""
    x, y, _ = at
    half, deep, height, boards = b.uniform(0.3, 0.8) * unit, 0.15 * unit, b.uniform(0.8, 2.0) * unit, 4
    wood = m.thing()
    books = [m.thing() for _ in range(5)]
    b.box((x - half, y + 0.8 * deep, 0), (x + half, y + deep, height), wood)
    for side in (-1, 1):
        b.box((x + side * half - 0.02 * unit, y - deep, 0), (x + side * half + 0.02 * unit, y + deep, height), wood)
    for k in range(boards):
        z = height * k / (boards - 1)
        b.box((x - half, y - deep, z - 0.02 * unit), (x + half, y + deep, z), wood)
        at_x = x - half + 0.03 * unit
        while k < boards - 1 and at_x < x + half * b.uniform(0.5, 1):
            wide, tall = b.uniform(0.02, 0.12) * unit, b.uniform(0.4, 0.9) * height / boards
            b.box((at_x, y - 0.7 * deep, z), (at_x + wide, y + 0.7 * deep, z + tall), b.pick(*books))
            at_x += wide + b.uniform(0, 0.05) * unit


def carton(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """A few boxes on top of each other."""
    z = 0.0
    for _ in range(b.number(1, 4)):
        half = (b.uniform(0.12, 0.4) * unit, b.uniform(0.12, 0.4) * unit, b.uniform(0.12, 0.4) * unit)
        b.solid("box", (at[0], at[1], z + half[2]), half, m.thing(), turn=b.uniform(-0.6, 0.6))
        z += 2 * half[2]


def seat(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """A sofa or armchair with cushions."""
    x, y, _ = at
    half, seat, cloth = b.uniform(0.35, 1.1) * unit, b.uniform(0.35, 0.5) * unit, m.thing()
    b.box((x - half, y - 0.4 * unit, 0.06 * unit), (x + half, y + 0.4 * unit, seat), cloth)
    b.box((x - half, y + 0.25 * unit, seat), (x + half, y + 0.4 * unit, 1.9 * seat), cloth)
    for side in (-1, 1):
        b.box((x + side * half - 0.1 * unit, y - 0.4 * unit, 0), (x + side * half, y + 0.4 * unit, 1.4 * seat), cloth)
    for _ in range(b.number(0, 4)):
        where = (x + b.uniform(-0.8, 0.8) * half, y + 0.15 * unit, seat + 0.15 * unit)
        b.solid("ellipsoid", where, (0.2 * unit, 0.1 * unit, 0.18 * unit), m.thing(), turn=b.uniform(-0.5, 0.5))


def lamp(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """A lamp that glows, on a table's or a floor's foot."""
    height, foot = b.uniform(0.5, 1.7) * unit, m.plain()
    b.solid("cylinder", (at[0], at[1], height / 2), (0.02 * unit, 0.02 * unit, height / 2), foot)
    shade = m.plain(glow=b.uniform(0.3, 2.5), colour=(1.0, b.uniform(0.8, 1), b.uniform(0.55, 1)))
    wide = b.uniform(0.08, 0.25) * unit
    b.solid(b.pick(*_ROUND), (at[0], at[1], height), (wide, wide, b.uniform(0.6, 1.2) * wide), shade)


def plant(b: SceneBuilder, m: Materials, at: Vector, unit: float) -> None:
    """Leaves in a pot."""
    pot = 0.18 * unit
    b.solid("cylinder", (at[0], at[1], pot), (pot, pot, pot), m.thing())
    foliage(b, (at[0], at[1], 0.8 * unit), 0.35 * unit, m.picture(0.15 * unit), b.number(15, 50))


def foliage(b: SceneBuilder, centre: Vector, radius: float, material: int, count: int) -> None:
    """Flat leaves or twigs about a centre."""
    way = b.rng.normal(size=(count, 3))
    way *= radius * b.rng.uniform(0.2, 1, (count, 1)) / np.linalg.norm(way, axis=1, keepdims=True)
    for x, y, z in (way + np.array(centre)).tolist():
        size = radius * b.uniform(0.12, 0.35)
        b.solid(
            "ellipsoid",
            (x, y, z),
            (size, size * b.uniform(0.2, 0.7), size * b.uniform(0.08, 0.5)),
            material,
            turn=b.uniform(0, 6),
            tilt=b.uniform(-1.2, 1.2),
        )


def tree(b: SceneBuilder, m: Materials, at: Vector) -> None:
    """A trunk with a crown."""
    height = b.uniform(1.5, 4)
    b.solid("cylinder", (at[0], at[1], height / 2), (0.06 * height, 0.06 * height, height / 2), m.rough())
    foliage(b, (at[0], at[1], height), 0.4 * height, m.picture(b.uniform(0.4, 1.5)), b.number(30, 90))


def bush(b: SceneBuilder, m: Materials, at: Vector) -> None:
    """Foliage down to the ground."""
    size = b.uniform(0.3, 0.9)
    foliage(b, (at[0], at[1], 0.6 * size), size, m.picture(b.uniform(0.3, 1)), b.number(15, 50))


def rock(b: SceneBuilder, m: Materials, at: Vector) -> None:
    """A few stones in each other."""
    stone = m.rough()
    for _ in range(b.number(1, 6)):
        x, y = at[0] + b.uniform(-0.7, 0.7), at[1] + b.uniform(-0.7, 0.7)
        half = (b.uniform(0.1, 0.8), b.uniform(0.1, 0.6), b.uniform(0.1, 0.6))
        b.solid(
            b.pick("ellipsoid", "box"),
            (x, y, 0.5 * half[2]),
            half,
            stone,
            turn=b.uniform(0, 3),
            tilt=b.uniform(-0.4, 0.4),
        )


def post(b: SceneBuilder, m: Materials, at: Vector) -> None:
    """A post, mostly with a sign on it."""
    height = b.uniform(0.8, 3)
    b.solid("cylinder", (at[0], at[1], height / 2), (0.05, 0.05, height / 2), m.thing())
    if b.chance(0.6):
        half = (b.uniform(0.15, 0.6), 0.02, b.uniform(0.15, 0.5))
        b.solid("box", (at[0], at[1] - 0.07, height - half[2]), half, m.picture(), turn=b.uniform(-0.4, 0.4))


def hut(b: SceneBuilder, m: Materials, at: Vector) -> None:
    """A turned box with a flat roof, two metres behind the place."""
    half, height, turn = (b.uniform(0.8, 2.2), b.uniform(0.8, 2.0)), b.uniform(1.5, 3), b.uniform(-0.5, 0.5)
    y = at[1] + 2
    b.solid("box", (at[0], y, height / 2), (*half, height / 2), m.wall(), turn=turn)
    b.solid("box", (at[0], y, height + 0.1), (1.1 * half[0], 1.1 * half[1], 0.1), m.thing(), turn=turn)


def ground(b: SceneBuilder, m: Materials, near: float, far: float) -> None:
    """The plane that outdoor things stand on, from ``near`` to ``far``."""
    b.box((-60, near, -1), (60, far, 0), m.ground())


def knobby(b: SceneBuilder, m: Materials, size: float) -> None:
    """A round body covered with knobs: fruit, shells, hair."""
    skin, half = m.thing(), np.array([1.0, b.uniform(0.6, 1.0), b.uniform(0.5, 1.2)]) * size * 0.6
    x, y, z = half.tolist()
    b.solid("ellipsoid", (0, 0, z), (x, y, z), skin)
    count = b.number(40, 160)
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    around = np.arange(count) * math.pi * (3 - math.sqrt(5))
    flat = np.sqrt(1 - height**2)
    for way in np.stack([flat * np.cos(around), flat * np.sin(around), height], axis=1):
        knob = size * b.uniform(0.04, 0.09)
        px, py, pz = (way * half + np.array([0, 0, z])).tolist()
        b.solid("ellipsoid", (px, py, pz), (knob, knob, knob), skin)


def stacked(b: SceneBuilder, m: Materials, size: float) -> None:
    """A tower of turned bodies: a bust, a vase, a toy."""
    z = 0.0
    for _ in range(b.number(3, 7)):
        half = (size * b.uniform(0.2, 0.6), size * b.uniform(0.2, 0.6), size * b.uniform(0.08, 0.3))
        shape = b.pick("box", *_ROUND)
        b.solid(shape, (b.uniform(-0.1, 0.1) * size, 0, z + half[2]), half, m.thing(), turn=b.uniform(0, 3))
        z += 1.6 * half[2]


def bunch(b: SceneBuilder, m: Materials, size: float) -> None:
    """Leaves, petals or feathers in a pot."""
    b.solid("cylinder", (0, 0, 0.25 * size), (0.25 * size, 0.25 * size, 0.25 * size), m.thing())
    foliage(b, (0, 0, 0.9 * size), 0.6 * size, m.picture(b.uniform(0.1, 0.3)), b.number(30, 90))
