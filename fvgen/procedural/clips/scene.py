"""Scenes of training clips as plain arrays, and how a camera sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fvgen.procedural.clips import raycast
from fvgen.types import Cameras

Vector = tuple[float, float, float]
Colour = tuple[float, float, float]
SUPERSAMPLING = 2
"""Rays along each side of a pixel for its colour, as `raycast.shade` wants them."""
_CASTER_SIZE = 0.04
"""Share of the scene's extent from which a solid throws a shadow: leaves and knobs would cost more than they show."""


@dataclass(frozen=True)
class ClipScene:
    """N solids with M materials."""

    shapes: np.ndarray
    """[N] int64"""
    centres: np.ndarray
    """[N, 3] metres, z up"""
    halves: np.ndarray
    """[N, 3]"""
    rotations: np.ndarray
    """[N, 3, 3] from a solid's own frame to the world"""
    faces: np.ndarray
    """[N, 6] int64 material of each face: -x +x -y +y -z +z"""
    materials: np.ndarray
    """[M, 16], see `fvgen.procedural.clips.raycast`"""
    atlas: np.ndarray
    """[A, S, 2 S, 3] float32 pictures in [0, 1] and their shrunk copies side by side"""
    lights: np.ndarray
    """[L, 4] position and strength"""
    ambient: float
    sky: np.ndarray
    """[11] horizon, zenith and cloud colours, cloud cover, seed"""
    noise: np.ndarray
    """[256, 256] float32 uniform random values"""
    focus: Vector
    """what cameras look at"""
    reach: float
    """metres from the focus at which cameras stand"""
    span: tuple[float, float]
    """degrees about the focus, from -y towards +x, in which nothing stands in their way"""
    rise: tuple[float, float]
    """degrees by which cameras may stand above the focus"""


@dataclass
class SceneBuilder:
    """Collects solids and materials."""

    rng: np.random.Generator
    solids: list[tuple[int, Vector, Vector, np.ndarray, tuple[int, ...]]] = field(default_factory=list)
    materials: list[np.ndarray] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)

    def uniform(self, low: float, high: float) -> float:
        """A number between two."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """True that often."""
        return bool(self.rng.random() < probability)

    def material(self, pattern: int, first: Colour, second: Colour, **columns: float) -> int:
        """Number of a new material; further columns by their names in `raycast`, in small letters."""
        row = np.zeros(raycast.MATERIAL_COLUMNS)
        row[raycast.PATTERN] = pattern
        row[raycast.RED : raycast.RED + 3] = first
        row[raycast.SECOND_RED : raycast.SECOND_RED + 3] = second
        row[[raycast.SCALE, raycast.GRAIN, raycast.SHININESS]] = 0.2, 0.1, 20.0
        row[raycast.SEED] = self.rng.integers(200)
        for name, value in columns.items():
            row[getattr(raycast, name.upper())] = value
        self.materials.append(row)
        return len(self.materials) - 1

    def solid(
        self, shape: int, centre: Vector, half: Vector, *materials: int, turn: float = 0.0, tilt: float = 0.0
    ) -> None:
        """Add a solid of one material or six, tilted about its own x axis, then turned about the vertical (radians)."""
        rotation = rotation_z(turn) @ rotation_x(tilt)
        self.solids.append((shape, centre, half, rotation, materials * 6 if len(materials) == 1 else materials))

    def box(self, low: Vector, high: Vector, *materials: int, turn: float = 0.0, shape: int = raycast.BOX) -> None:
        """Add a solid between two corners of its bounding box (before it is turned)."""
        centre = tuple(0.5 * (a + b) for a, b in zip(low, high, strict=True))
        half = tuple(max(0.5 * (b - a), 1e-4) for a, b in zip(low, high, strict=True))
        self.solid(shape, centre, half, *materials, turn=turn)  # type: ignore[arg-type]

    def build(
        self,
        lights: np.ndarray,
        ambient: float,
        sky: np.ndarray,
        focus: Vector,
        reach: float,
        span: tuple[float, float],
        rise: tuple[float, float] = (0.0, 20.0),
    ) -> ClipScene:
        """The scene of all that was added."""
        shapes, centres, halves, rotations, faces = zip(*self.solids, strict=True)
        return ClipScene(
            shapes=np.array(shapes, dtype=np.int64),
            centres=np.array(centres, dtype=np.float64),
            halves=np.array(halves, dtype=np.float64),
            rotations=np.stack(rotations),
            faces=np.array(faces, dtype=np.int64),
            materials=np.stack(self.materials),
            atlas=_with_shrunk_copies(np.stack(self.pictures)),
            lights=lights,
            ambient=ambient,
            sky=sky,
            noise=self.rng.random((256, 256), dtype=np.float32),
            focus=focus,
            reach=reach,
            span=span,
            rise=rise,
        )


def rotation_z(angle: float) -> np.ndarray:
    """[3, 3] turn about the vertical."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_x(angle: float) -> np.ndarray:
    """[3, 3] turn about the x axis."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


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
    casters = np.nonzero((scene.halves.max(axis=1) > _CASTER_SIZE * scene.reach) & (scene.shapes != raycast.ROOM))[0]
    solids = (scene.shapes, scene.rotations, scene.halves, _to_local(scene), scene.centres, scene.faces)
    look = (scene.materials, scene.atlas, scene.noise, casters, scene.lights, scene.ambient, scene.sky)
    frames = []
    for i in range(len(cameras)):
        depth, hit = _cast(scene, cameras, i, SUPERSAMPLING)
        rgb = np.empty((cameras.height, cameras.width, 3))
        pose, intrinsics = _pinhole(cameras, i)
        raycast.shade(solids, look, pose, intrinsics, depth, hit, rgb)
        frames.append(torch.from_numpy(rgb.astype(np.float32)))
    return torch.stack(frames).permute(0, 3, 1, 2).contiguous()


def exact_depth(scene: ClipScene, cameras: Cameras) -> Tensor:
    """[C, H, W] float32 along the viewing axis at pixel centres, 0 where a camera sees the sky."""
    depths = [_cast(scene, cameras, i, 1)[0] for i in range(len(cameras))]
    depth = torch.from_numpy(np.stack(depths)).float()
    return torch.where(depth < raycast.FAR, depth, 0.0)


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
    raycast.cast(
        scene.shapes, _to_local(scene), scene.centres, windows, pose, intrinsics, 1 / supersampling, depth, hit
    )
    return depth, hit


def _windows(
    scene: ClipScene, pose: np.ndarray, intrinsics: tuple[float, ...], height: int, width: int, supersampling: int
) -> np.ndarray:
    """[N, 4] int64 (x0, x1, y0, y1): the samples in which each solid's bounding box can be seen."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = np.einsum("nij,nkj->nki", scene.rotations, signs * scene.halves[:, None]) + scene.centres[:, None]
    local = (corners - pose[:3, 3]) @ pose[:3, :3]
    fx, fy, cx, cy = intrinsics
    z = local[..., 2]
    safe = np.maximum(z, 1e-3)
    x = (local[..., 0] / safe * fx + cx) * supersampling
    y = (local[..., 1] / safe * fy + cy) * supersampling
    bounds = np.stack([x.min(1) - 1, x.max(1) + 2, y.min(1) - 1, y.max(1) + 2], axis=1)
    bounds = bounds.clip(0, [[width, width, height, height]])
    whole = (z <= 1e-3).any(axis=1) | (scene.shapes == raycast.ROOM)
    bounds[whole] = (0, width, 0, height)
    bounds[(z <= 1e-3).all(axis=1) & (scene.shapes != raycast.ROOM)] = 0
    return bounds.astype(np.int64)
