"""What a procedural scene is made of: boxes, ellipsoids and cylinders with textures, and lights. No drawing here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from fvgen.procedural.rooms.textures import Texture

Shape = Literal["box", "room", "ellipsoid", "cylinder"]
"""A "room" is a box seen from inside; a cylinder stands along its own z axis."""


@dataclass(frozen=True, eq=False)
class Solid:
    """One convex body. In its own frame it fills [-half_size, half_size]."""

    shape: Shape
    centre: tuple[float, float, float]
    """Metres in the world, z up."""
    half_size: tuple[float, float, float]
    textures: tuple[Texture, ...]
    """One for the whole body, or six for the faces of a box or room: -x +x -y +y -z +z."""
    turn: float = 0.0
    """Radians about the vertical."""
    tilt: float = 0.0
    """Radians about its own x axis, before the turn."""
    glow: float = 0.0
    """Share of its colour that needs no light: 1 for a window or screen."""

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3] from its own frame to the world."""
        (ct, st), (cx, sx) = ((np.cos(angle), np.sin(angle)) for angle in (self.turn, self.tilt))
        about_z = np.array([[ct, -st, 0], [st, ct, 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        return about_z @ about_x

    @property
    def corners(self) -> np.ndarray:
        """[8, 3] of its bounding box, in the world."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        return (signs * np.array(self.half_size)) @ self.rotation.T + np.array(self.centre)


@dataclass(frozen=True)
class Light:
    """A soft lamp without shadows."""

    position: tuple[float, float, float]
    strength: float


@dataclass(frozen=True)
class Scene:
    """A room and what stands in it."""

    solids: tuple[Solid, ...]
    """The first is the room."""
    lights: tuple[Light, ...]
    ambient: float = 0.45
    contact: tuple[tuple[float, float, float], ...] = field(default=())
    """(x, y, radius) of soft dark spots on the floor, under what stands on it."""
