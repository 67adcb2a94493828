"""Scenes of training clips as plain arrays, and how a camera sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fvgen.procedural import kernels
from fvgen.procedural.colours import Colour
from fvgen.procedural.solids import BOX_CORNERS, Light, Shape, Solid, Vector
from fvgen.types import Cameras

Option = TypeVar("Option")
_SHAPE_CODES: dict[Shape, int] = {
    "box": kernels.BOX,
    "room": kernels.ROOM,
    "ellipsoid": kernels.ELLIPSOID,
    "cylinder": kernels.CYLINDER,
}
_SUPERSAMPLING = 2
"""Rays along each side of a pixel for its colour, as `kernels.shade` wants them."""
_NEAREST = 1e-3
"""Metres before a camera from which a solid can be seen."""
_CASTER_SIZE = 0.04
"""Share of the scene's extent from which a solid throws a shadow: leaves and knobs would cost more than they show."""


@dataclass(frozen=True)
class ClipScene:
    """N solids with M materials."""

    shapes: np.ndarray
    """[N] int64 codes of `fvgen.procedural.kernels`."""
    centres: np.ndarray
    """[N, 3] metres, z up."""
    halves: np.ndarray
    """[N, 3] half sizes in metres."""
    rotations: np.ndarray
    """[N, 3, 3] from a solid's own frame to the world."""
    faces: np.ndarray
    """[N, 6] int64 material of each face: -x +x -y +y -z +z."""
    materials: np.ndarray
    """[M, 16], columns as `fvgen.procedural.kernels` names them."""
    atlas: np.ndarray
    """[A, S, 2 S, 3] float32 pictures in [0, 1] and their shrunk copies side by side."""
    lights: np.ndarray
    """[L, 4] position and strength."""
    ambient: float
    sky: np.ndarray
    """[11] horizon, zenith and cloud colours, cloud cover, seed."""
    noise: np.ndarray
    """[256, 256] float32 uniform random values."""
    focus: Vector
    """What cameras look at."""
    reach: float
    """Metres from the focus at which cameras stand."""
    span: tuple[float, float]
    """Degrees about the focus, from -y towards +x, in which nothing stands in their way."""
    rise: tuple[float, float]
    """Degrees by which cameras may stand above the focus."""


@dataclass
class SceneBuilder:
    """Collects solids and materials."""

    rng: np.random.Generator
    solids: list[Solid] = field(default_factory=list)
    faces: list[tuple[int, ...]] = field(default_factory=list)
    """Six materials of each solid."""
    materials: list[np.ndarray] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        """A number between two."""
        return float(self.rng.uniform(low, high))

    def number(self, low: int, end: int) -> int:
        """A whole number from ``low`` to ``end`` - 1."""
        return int(self.rng.integers(low, end))

    def pick(self, *options: Option) -> Option:
        """One of the options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def material(self, pattern: int, first: Colour, second: Colour, **columns: float) -> int:
        """Number of a new material; further columns by their names in `kernels`, in small letters."""
        row = np.zeros(kernels.MATERIAL_COLUMNS)
        row[kernels.PATTERN] = pattern
        row[kernels.RED : kernels.RED + 3] = first
        row[kernels.SECOND_RED : kernels.SECOND_RED + 3] = second
        row[[kernels.SCALE, kernels.GRAIN, kernels.SHININESS]] = 0.2, 0.1, 20.0
        row[kernels.SEED] = self.rng.integers(200)
        for name, value in columns.items():
            row[getattr(kernels, name.upper())] = value
        self.materials.append(row)
        return len(self.materials) - 1

    def solid(
        self, shape: Shape, centre: Vector, half_size: Vector, *materials: int, turn: float = 0.0, tilt: float = 0.0
    ) -> None:
        """Add a solid of one material, or of six for -x +x -y +y -z +z; turned and tilted as `Solid` says."""
        self._add(Solid(shape, centre, half_size, turn, tilt), materials)

    def box(self, low: Vector, high: Vector, *materials: int, shape: Shape = "box") -> None:
        """Add a solid between two corners of its bounding box."""
        self._add(Solid.between(low, high, shape), materials)

    def _add(self, solid: Solid, materials: tuple[int, ...]) -> None:
        self.solids.append(solid)
        self.faces.append(materials * 6 if len(materials) == 1 else materials)

    def build(
        self,
        lights: Sequence[Light],
        ambient: float,
        sky: np.ndarray,
        focus: Vector,
        reach: float,
        span: tuple[float, float],
        rise: tuple[float, float],
    ) -> ClipScene:
        """The scene of all that was added."""
        return ClipScene(
            shapes=np.array([_SHAPE_CODES[solid.shape] for solid in self.solids], dtype=np.int64),
            centres=np.array([solid.centre for solid in self.solids], dtype=np.float64),
            halves=np.array([solid.half_size for solid in self.solids], dtype=np.float64),
            rotations=np.stack([solid.rotation for solid in self.solids]),
            faces=np.array(self.faces, dtype=np.int64),
            materials=np.stack(self.materials),
            atlas=_with_shrunk_copies(np.stack(self.pictures)),
            lights=np.array([(*light.position, light.strength) for light in lights]),
            ambient=ambient,
            sky=sky,
            noise=self.rng.random((kernels.LATTICE, kernels.LATTICE), dtype=np.float32),
            focus=focus,
            reach=reach,
            span=span,
            rise=rise,
        )


def _with_shrunk_copies(pictures: np.ndarray) -> np.ndarray:
    """[A, S, 2 S, 3] of pictures [A, S, S, 3], S a power of 2."""
    side = pictures.shape[1]
    atlas = np.zeros((len(pictures), side, 2 * side, 3), dtype=np.float32)
    left, level = 0, pictures.astype(np.float32)
    while side >= 1:
        atlas[:, :side, left : left + side] = level
        left += side
        side //= 2
        if side:
            level = level.reshape(len(level), side, 2, side, 2, 3).mean(axis=(2, 4))
    return atlas


def draw(scene: ClipScene, cameras: Cameras) -> Tensor:
    """[C, 3, H, W] float32 linear colours, not bounded by 1, of C cameras (float64) in the scene."""
    casters = np.nonzero((scene.halves.max(axis=1) > _CASTER_SIZE * scene.reach) & (scene.shapes != kernels.ROOM))[0]
    solids = (scene.shapes, scene.rotations, scene.halves, _to_local(scene), scene.centres, scene.faces)
    look = (scene.materials, scene.atlas, scene.noise, casters, scene.lights, scene.ambient, scene.sky)
    frames = []
    for i in range(len(cameras)):
        depth, hit = _cast(scene, cameras, i, _SUPERSAMPLING)
        rgb = np.empty((cameras.height, cameras.width, 3))
        pose, intrinsics = _pinhole(cameras, i)
        kernels.shade(solids, look, pose, intrinsics, depth, hit, rgb)
        frames.append(torch.from_numpy(rgb.astype(np.float32)))
    return torch.stack(frames).permute(0, 3, 1, 2).contiguous()


def exact_depth(scene: ClipScene, cameras: Cameras) -> Tensor:
    """[C, H, W] float32 along the viewing axis at pixel centres, 0 where a camera sees the sky."""
    depths = [_cast(scene, cameras, i, 1)[0] for i in range(len(cameras))]
    depth = torch.from_numpy(np.stack(depths)).float()
    return torch.where(depth < kernels.FAR, depth, 0.0)


def _to_local(scene: ClipScene) -> np.ndarray:
    """[N, 3, 3] from the world to each solid's unit frame."""
    return np.ascontiguousarray(scene.rotations.transpose(0, 2, 1) / scene.halves[:, :, None])


def _pinhole(cameras: Cameras, i: int) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    K = cameras.K[i].double().numpy()
    pose = np.ascontiguousarray(cameras.c2w[i].double().numpy())
    return pose, (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


def _cast(scene: ClipScene, cameras: Cameras, i: int, supersampling: int) -> tuple[np.ndarray, np.ndarray]:
    height, width = cameras.height * supersampling, cameras.width * supersampling
    pose, intrinsics = _pinhole(cameras, i)
    windows = _windows(scene, pose, intrinsics, height, width, supersampling)
    depth, hit = np.empty((height, width)), np.empty((height, width), dtype=np.int64)
    kernels.cast(
        scene.shapes, _to_local(scene), scene.centres, windows, pose, intrinsics, 1 / supersampling, depth, hit
    )
    return depth, hit


def _windows(
    scene: ClipScene, pose: np.ndarray, intrinsics: tuple[float, ...], height: int, width: int, supersampling: int
) -> np.ndarray:
    """[N, 4] int64 (x0, x1, y0, y1): the samples in which each solid's bounding box can be seen."""
    corners = np.einsum("nij,nkj->nki", scene.rotations, BOX_CORNERS * scene.halves[:, None]) + scene.centres[:, None]
    local = (corners - pose[:3, 3]) @ pose[:3, :3]
    fx, fy, cx, cy = intrinsics
    z = local[..., 2]
    safe = np.maximum(z, _NEAREST)
    x = (local[..., 0] / safe * fx + cx) * supersampling
    y = (local[..., 1] / safe * fy + cy) * supersampling
    bounds = np.stack([x.min(1) - 1, x.max(1) + 2, y.min(1) - 1, y.max(1) + 2], axis=1)
    bounds = bounds.clip(0, [[width, width, height, height]])
    whole = (z <= _NEAREST).any(axis=1) | (scene.shapes == kernels.ROOM)
    bounds[whole] = (0, width, 0, height)
    bounds[(z <= _NEAREST).all(axis=1) & (scene.shapes != kernels.ROOM)] = 0
    return bounds.astype(np.int64)
