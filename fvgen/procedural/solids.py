"""What every procedural scene is made of: convex solids and lamps, in metres with z up. No drawing here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Vector = tuple[float, float, float]
Shape = Literal["box", "room", "ellipsoid", "cylinder"]
"""A "room" is a box seen from inside; a cylinder stands along its own z axis."""

THINNEST = 1e-4
"""Metres: the least half size of a solid between two corners."""
BOX_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
"""[8, 3] corners of the cube [-1, 1], which every solid fills in its unit frame."""


@dataclass(frozen=True)
class Solid:
    """One convex body. In its own frame it fills [-half_size, half_size]."""

    shape: Shape
    centre: Vector
    """Metres in the world."""
    half_size: Vector
    turn: float = 0.0
    """Radians about the vertical."""
    tilt: float = 0.0
    """Radians about its own x axis, before the turn."""

    @classmethod
    def between(cls, low: Vector, high: Vector, shape: Shape = "box", turn: float = 0.0, tilt: float = 0.0) -> Solid:
        """The solid between two corners of its bounding box, before it is turned."""
        (x, y, z), (a, b, c) = low, high
        half_size = (max(0.5 * (a - x), THINNEST), max(0.5 * (b - y), THINNEST), max(0.5 * (c - z), THINNEST))
        return cls(shape, (0.5 * (x + a), 0.5 * (y + b), 0.5 * (z + c)), half_size, turn, tilt)

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3] from its own frame to the world."""
        return rotation_z(self.turn) @ rotation_x(self.tilt)

    @property
    def corners(self) -> np.ndarray:
        """[8, 3] of its bounding box, in the world."""
        return (BOX_CORNERS * np.array(self.half_size)) @ self.rotation.T + np.array(self.centre)


@dataclass(frozen=True)
class Light:
    """A lamp or the sun."""

    position: Vector
    strength: float


def rotation_z(angle: float) -> np.ndarray:
    """[3, 3] turn about the vertical, in radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_x(angle: float) -> np.ndarray:
    """[3, 3] turn about the x axis, in radians."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
