"""What stands where in the scenes of training clips: rooms, things on a table, facades, open ground.

Cameras stand at -y of the focus and look towards +y; z is up; sizes are metres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from fvgen.procedural.clips.materials import Materials
from fvgen.procedural.clips.scene import ClipScene, SceneBuilder
from fvgen.procedural.clips.things import (
    bunch,
    bush,
    carton,
    clutter,
    ground,
    hut,
    knobby,
    lamp,
    plant,
    post,
    rock,
    seat,
    shelf,
    stacked,
    table,
    tree,
)
from fvgen.procedural.solids import Light


def room(b: SceneBuilder) -> ClipScene:
    """A furnished room, or at a small scale a bin or shelf with things in it."""
    unit = 1.0 if b.chance(0.7) else b.uniform(0.15, 0.5)
    m = Materials(b, unit)
    width, depth, height = (b.uniform(*range_) * unit for range_ in ((3.5, 7), (3.0, 6.5), (2.3, 3.2)))
    left, right = -width / 2, width / 2
    one = m.wall()
    walls = [one if b.chance(0.5) else m.wall() for _ in range(4)]
    b.box((left, 0, 0), (right, depth, height), *walls, m.floor(), m.plain(), shape="room")
    for _ in range(b.number(2, 7)):
        x = b.uniform(left + 0.4 * unit, right - 0.4 * unit)
        y = depth - abs(b.rng.normal(0, 0.35)) * depth * 0.6 - 0.3 * unit
        kind = b.pick(table, shelf, carton, seat, lamp, plant)
        kind(b, m, (x, max(y, 0.36 * depth), 0.0), unit)
    _on_back_wall(b, m, left, right, depth, height, unit)
    if b.chance(0.5):
        rug = (b.uniform(0.5, 1.2) * unit, b.uniform(0.4, 0.9) * unit)
        b.solid(
            "box",
            (b.uniform(-0.5, 0.5) * unit, 0.6 * depth, 0.0),
            (*rug, 0.01 * unit),
            m.picture(),
            turn=b.uniform(-0.5, 0.5),
        )
    clutter(b, m, (left, right), (0.35 * depth, depth), 0.0, unit, b.number(4, 25))
    ceiling = (b.uniform(left, right) * 0.7, b.uniform(0.2, 0.8) * depth, 0.92 * height)
    lights = [Light(ceiling, b.uniform(0.3, 0.9))]
    other = (b.uniform(left, right) * 0.9, b.uniform(0.1, 0.9) * depth, b.uniform(0.4, 0.9) * height)
    lights.append(Light(other, b.uniform(0, 0.5)))
    focus = (b.uniform(-0.1, 0.1) * width, b.uniform(0.62, 0.85) * depth, b.uniform(0.25, 0.5) * height)
    reach = min(focus[1] - 0.12 * depth, b.uniform(0.45, 0.75) * depth)
    most = math.degrees(math.asin(min(0.42 * width / reach, 0.9)))
    return b.build(lights, b.uniform(0.25, 0.7), _sky(b), focus, reach, (-most, most), (-5, 22))


def tabletop(b: SceneBuilder) -> ClipScene:
    """One thing on a table or plinth, markers or prints around it, something far behind."""
    m = Materials(b, 0.25)
    wide = b.uniform(0.5, 1.2)
    b.box((-wide, -wide, -0.05), (wide, wide, 0.0), m.floor())
    far = m.plain() if b.chance(0.5) else m.rough()
    b.box((-4, -4, -0.9), (4, 4, 1.8), far, m.wall(), m.wall(), m.picture(2.0), m.floor(), m.plain(), shape="room")
    for _ in range(b.number(0, 9)):
        x, y = b.rng.uniform(-0.8, 0.8, 2) * wide
        b.solid("box", (x, y, 0.0), (0.05, 0.04, 0.001), m.picture(), turn=b.uniform(0, 6))
    size = b.uniform(0.15, 0.3)
    b.pick(knobby, stacked, bunch)(b, m, size)
    clutter(b, m, (-0.9 * wide, 0.9 * wide), (-0.5 * wide, 0.9 * wide), 0.0, 0.25, b.number(0, 9))
    clutter(b, m, (-3.5, 3.5), (2.0, 3.8), -0.9, 1.2, b.number(2, 9))
    lights = [Light((b.uniform(-2, 2), b.uniform(-2, 1), 1.7), b.uniform(0.3, 0.8))]
    focus = (0.0, 0.0, 0.6 * size)
    reach = b.uniform(2.4, 4.5) * size
    return b.build(lights, b.uniform(0.35, 0.7), _sky(b), focus, reach, (-180, 180), (8, 60))


def facade(b: SceneBuilder) -> ClipScene:
    """A house front of piers and bands before a back plane with windows and doors; steps, street, sky."""
    m = Materials(b, 1.0)
    width, height, deep = b.uniform(8, 18), b.uniform(5, 14), b.uniform(0.1, 0.7)
    back, wall, trim = m.plain() if b.chance(0.4) else m.wall(), m.wall(), m.thing()
    b.box((-width / 2, 0, 0), (width / 2, 4, height), back)
    columns, rows = b.number(2, 7), b.number(1, 5)
    cell_x, cell_z = width / columns, height / rows
    open_x, open_z = b.uniform(0.35, 0.7) * cell_x, b.uniform(0.4, 0.75) * cell_z
    window = [m.picture() for _ in range(2)]
    for i in range(columns + 1):
        x, half = -width / 2 + i * cell_x, 0.5 * (cell_x - open_x)
        b.box((max(x - half, -width / 2), -deep, 0), (min(x + half, width / 2), 0, height), wall)
    for j in range(rows + 1):
        z, half = j * cell_z, 0.5 * (cell_z - open_z)
        b.box((-width / 2, -deep * 0.98, max(z - half, 0)), (width / 2, 0, min(z + half, height)), wall)
        if b.chance(0.5):
            b.box((-width / 2, -1.4 * deep - 0.05, z - 0.1), (width / 2, -deep, z + 0.1), trim)
    for i in range(columns):
        for j in range(rows):
            x, z = -width / 2 + (i + 0.5) * cell_x, (j + 0.5) * cell_z
            b.box((x - open_x / 2, -0.03, z - open_z / 2), (x + open_x / 2, 0, z + open_z / 2), window[(i * j) % 2])
            if b.chance(0.25):
                b.box((x - open_x / 2, -deep - 0.5, z - open_z / 2), (x + open_x / 2, -deep, z - 0.35 * open_z), trim)
            if b.chance(0.2):
                b.solid("cylinder", (x - open_x / 2, -deep - 0.2, z), (0.15, 0.15, open_z / 2), trim)
    ground(b, m, -20, 25)
    for k in range(b.number(0, 6)):
        b.box((-0.3 * width, -deep - 0.35 * (k + 1), 0), (0.3 * width, -deep, 0.9 - 0.15 * k), trim)
    for _ in range(b.number(0, 5)):
        kind = b.pick(bush, post, tree)
        kind(b, m, (b.uniform(-width / 2, width / 2), -deep - b.uniform(0.8, 2.5), 0.0))
    lights = [Light((b.uniform(-60, 60), b.uniform(-80, -20), b.uniform(20, 80)), b.uniform(0, 1.0))]
    focus = (b.uniform(-0.2, 0.2) * width, 0.0, b.uniform(0.3, 0.55) * height)
    return b.build(
        lights, b.uniform(0.4, 0.8), _sky(b), focus, b.uniform(0.6, 1.2) * max(height, 6), (-50, 50), (-14, 2)
    )


def outdoors(b: SceneBuilder) -> ClipScene:
    """Ground with trees, rocks, walls and huts, hills far away."""
    m = Materials(b, 1.0)
    ground(b, m, -25, 60)
    for _ in range(b.number(5, 13)):
        where = (b.uniform(-7, 7), b.uniform(-1.5, 9), 0.0)
        kind = b.pick(tree, bush, rock, post, hut, rock)
        kind(b, m, where)
    for _ in range(b.number(0, 3)):
        b.solid(
            "box",
            (b.uniform(-6, 6), b.uniform(1, 8), 0.5),
            (b.uniform(1, 5), 0.1, b.uniform(0.3, 1.2)),
            m.wall(),
            turn=b.uniform(-0.6, 0.6),
        )
    for _ in range(b.number(0, 4)):
        at, half = (b.uniform(-60, 60), b.uniform(50, 90), -4.0), (b.uniform(20, 50), 15.0, b.uniform(6, 20))
        b.solid("ellipsoid", at, half, m.rough())
    lights = [Light((b.uniform(-60, 60), b.uniform(-80, 40), b.uniform(30, 80)), b.uniform(0.1, 1.0))]
    focus = (b.uniform(-1, 1), b.uniform(0, 3), b.uniform(0.5, 1.5))
    return b.build(lights, b.uniform(0.35, 0.8), _sky(b), focus, b.uniform(4, 8), (-50, 50), (0, 25))


LAYOUTS: Mapping[str, tuple[float, Callable[[SceneBuilder], ClipScene]]] = {
    "room": (0.4, room),
    "tabletop": (0.22, tabletop),
    "facade": (0.2, facade),
    "outdoors": (0.18, outdoors),
}
"""Kind of scene -> its share of the clips, and what builds it."""


def make_scene(seed: int | list[int]) -> ClipScene:
    """A random scene; the same seed, the same scene."""
    rng = np.random.default_rng(seed)
    shares, makers = zip(*LAYOUTS.values(), strict=True)
    return makers[int(rng.choice(len(makers), p=shares))](SceneBuilder(rng))


def _sky(b: SceneBuilder) -> np.ndarray:
    """[11] from clear blue over overcast to dusk and night; see `ClipScene.sky`."""
    light = b.uniform(0.05, 1.0)
    zenith = light * np.array([b.uniform(0.25, 0.8), b.uniform(0.45, 0.85), b.uniform(0.7, 1.0)])
    horizon = light * np.array([b.uniform(0.7, 1.0), b.uniform(0.7, 0.95), b.uniform(0.6, 1.0)])
    cloud = light * b.uniform(0.5, 1.2) * np.ones(3)
    return np.concatenate([horizon, zenith, cloud, [b.uniform(0, 0.8), b.rng.integers(200)]])


def _on_back_wall(
    b: SceneBuilder, m: Materials, left: float, right: float, depth: float, height: float, unit: float
) -> None:
    """Pictures, windows and lamps on the far wall."""
    for _ in range(b.number(0, 6)):
        half = b.uniform(0.1, 0.5) * unit, b.uniform(0.1, 0.45) * unit
        x, z = b.uniform(left + half[0], right - half[0]), b.uniform(0.4, 0.8) * height
        glow = b.uniform(0.5, 1.6) if b.chance(0.2) else 0.0
        thick = b.uniform(0.005, 0.05) * unit
        b.box((x - half[0], depth - thick, z - half[1]), (x + half[0], depth, z + half[1]), m.picture(glow=glow))
