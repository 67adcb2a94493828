"""Scenes of textured solids, and photos of them by exact ray casting: no noise in them, no error in their depth.

Rays are cast here a second time, beside `fvgen.procedural.kernels`, and have to stay: furniture shares planes, where
the last bit of a distance decides which solid is seen, so with the kernels' rounding the demo's photos would change.
Each caster is the other's oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fvgen.geometry.cameras import pixel_rays, project
from fvgen.procedural.solids import Light, Solid
from fvgen.types import Cameras

Texture = Callable[[np.ndarray], np.ndarray]
"""``texture(uv [P, 2] metres) -> rgb [P, 3]`` in [0, 1] before light."""

_CORNER_SHADE = 0.3
"""How much darker a room is right in its corners."""
_CORNER_REACH = 0.25
"""Metres over which that fades."""
_CONTACT_SHADE = 0.5
"""How much darker the floor is right under what stands on it."""
_CONTACT_REACH = 0.08
"""Metres of height over which that fades."""
_LAMP_FALLOFF = 0.15
"""How fast lamps fade with the square of the distance; 1 / (1 + falloff) is left at one metre."""
_NEAREST = 1e-3
"""Metres before a camera up to which a solid may reach anywhere in the picture."""
_CAP_EDGE = 1e-6
"""Share of a cylinder's half height within which a point lies on its cap."""


@dataclass(frozen=True, eq=False)
class TexturedSolid:
    """A solid and its looks."""

    solid: Solid
    textures: tuple[Texture, ...]
    """One for the whole body, or six for the faces of a box or room: -x +x -y +y -z +z."""
    glow: float = 0.0
    """Share of its colour that needs no light: 1 for a window or screen."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A room and what stands in it."""

    solids: tuple[TexturedSolid, ...]
    """The first is the room."""
    lights: tuple[Light, ...]
    """Soft lamps without shadows."""
    ambient: float = 0.45
    contact: tuple[tuple[float, float, float], ...] = ()
    """(x, y, radius) of soft dark spots on the floor, under what stands on it."""


def render_scene(scene: Scene, cameras: Cameras, supersampling: int = 2) -> tuple[Tensor, Tensor]:
    """Photos and depth.

    Args:
        scene: what to draw.
        cameras: C cameras inside the room, OpenCV axes, in the scene's world (z up, metres).
        supersampling: rays along each side of a pixel for its colour.

    Returns:
        rgb [C, 3, H, W] in [0, 1], the mean over each pixel; depth [C, H, W] along the viewing axis at its centre.
    """
    fine = cameras.resized(cameras.height * supersampling, cameras.width * supersampling)
    photos, depths = [], []
    for i in range(len(cameras)):
        camera = fine[i]
        rays = _world_rays(camera)
        depth, hit = _cast(scene, camera, rays)
        rgb = _shade(scene, camera.c2w[0, :3, 3].double().numpy() + depth[..., None] * rays, hit)
        rgb = rgb.reshape(cameras.height, supersampling, cameras.width, supersampling, 3).mean(axis=(1, 3))
        photos.append(torch.from_numpy(rgb).permute(2, 0, 1).float())
        depths.append(torch.from_numpy(_cast(scene, cameras[i], _world_rays(cameras[i]))[0]).float())
    return torch.stack(photos), torch.stack(depths)


def _cast(scene: Scene, camera: Cameras, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth [H, W] of the nearest surface along rays [H, W, 3] and the index [H, W] of its solid."""
    depth = np.full(rays.shape[:2], np.inf)
    hit = np.zeros(rays.shape[:2], dtype=np.int64)
    for index, solid in enumerate(textured.solid for textured in scene.solids):
        window = _window(solid, camera)
        local = _local_rays(solid, camera, rays[window])
        distance = _INTERSECT[solid.shape](*local)
        nearer = distance < depth[window]
        depth[window][nearer] = distance[nearer]
        hit[window][nearer] = index
    return depth, hit


def _world_rays(camera: Cameras) -> np.ndarray:
    """[H, W, 3] with length 1 along the viewing axis, so that a ray's parameter is depth."""
    rays = pixel_rays(Cameras(camera.c2w.double(), camera.K.double(), camera.height, camera.width))[0]
    return (rays @ camera.c2w[0, :3, :3].double().T).numpy()


def _window(solid: Solid, camera: Cameras) -> tuple[slice, slice]:
    """The part of the image that the solid can be seen in."""
    uv, z = project(torch.from_numpy(solid.corners), Cameras(camera.c2w, camera.K, camera.height, camera.width))
    if solid.shape == "room" or bool((z <= _NEAREST).any()):
        return np.s_[:, :]
    low = uv[0].floor().amin(dim=0).long().clamp_min(0).tolist()
    high = (uv[0].ceil().amax(dim=0).long() + 1).clamp_min(0).tolist()
    return np.s_[low[1] : high[1], low[0] : high[0]]


def _local_rays(solid: Solid, camera: Cameras, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ray origin [3] and directions [..., 3] in the frame where the solid fills [-1, 1]."""
    to_local = solid.rotation / np.array(solid.half_size)
    origin = (camera.c2w[0, :3, 3].double().numpy() - np.array(solid.centre)) @ to_local
    return origin, rays @ to_local


def _slabs(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays [..., D] enter and leave [-1, 1] in D axes at once: entry and exit, both [...]."""
    enter, leave = np.full(rays.shape[:-1], -np.inf), np.full(rays.shape[:-1], np.inf)
    with np.errstate(divide="ignore"):
        for axis in range(rays.shape[-1]):  # a loop is four times as fast as reducing over a short last axis
            inverse = 1 / rays[..., axis]
            first, second = (-1 - origin[axis]) * inverse, (1 - origin[axis]) * inverse
            enter = np.maximum(enter, np.minimum(first, second))
            leave = np.minimum(leave, np.maximum(first, second))
    return enter, leave


def _box(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    enter, leave = _slabs(origin, rays)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _room(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    return _slabs(origin, rays)[1]


def _quadric(origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave the unit ball of the axes given; entry after exit where they miss it."""
    a, b, c = np.einsum("...i,...i", rays, rays), rays @ origin, origin @ origin - 1
    root = b * b - a * c
    with np.errstate(invalid="ignore"):
        half = np.sqrt(root)
    missed = root < 0
    return np.where(missed, np.inf, (-b - half) / a), np.where(missed, -np.inf, (-b + half) / a)


def _ellipsoid(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    enter, _ = _quadric(origin, rays)
    return np.where(enter > 0, enter, np.inf)


def _cylinder(origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    side_in, side_out = _quadric(origin[:2], rays[..., :2])
    cap_in, cap_out = _slabs(origin[2:], rays[..., 2:])
    enter, leave = np.maximum(side_in, cap_in), np.minimum(side_out, cap_out)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


_INTERSECT = {"box": _box, "room": _room, "ellipsoid": _ellipsoid, "cylinder": _cylinder}


def _shade(scene: Scene, points: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """[H, W, 3] colours in [0, 1] of surface points [H, W, 3] on the solids ``hit`` [H, W], the same in every view."""
    xyz = points.reshape(-1, 3)
    rgb = np.empty_like(xyz)
    order = np.argsort(hit, axis=None, kind="stable")
    seen, starts = np.unique(hit.ravel()[order], return_index=True)
    for index, where in zip(seen, np.split(order, starts[1:]), strict=True):
        textured = scene.solids[index]
        face, normal, uv = _surface(textured.solid, xyz[where])
        light = textured.glow + (1 - textured.glow) * _light(scene, xyz[where], normal)
        rgb[where] = _colour(textured.textures, face, uv) * light[:, None]
    return rgb.clip(0, 1).reshape(*hit.shape, 3)


def _colour(textures: tuple[Texture, ...], face: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """[P, 3] of the textures, before light, for ``face`` [P] and ``uv`` [P, 2]."""
    if len(textures) == 1:
        return textures[0](uv)
    colour = np.empty((len(uv), 3))
    for i, texture in enumerate(textures):
        colour[face == i] = texture(uv[face == i])
    return colour


def _surface(solid: Solid, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face [P] (numbered as in `TexturedSolid.textures`), normal [P, 3] in the world, coordinates [P, 2] in metres."""
    half = np.array(solid.half_size)
    own = (xyz - np.array(solid.centre)) @ solid.rotation
    unit = own / half
    if solid.shape in ("box", "room"):
        axis = np.abs(unit).argmax(axis=1)
        sign = np.sign(np.take_along_axis(unit, axis[:, None], axis=1))[:, 0]
        normal = np.eye(3)[axis] * sign[:, None] * (-1 if solid.shape == "room" else 1)
        # v is the upright axis on the sides, y on top and bottom
        uv = np.stack([np.where(axis == 0, own[:, 1], own[:, 0]), np.where(axis == 2, own[:, 1], own[:, 2])], axis=1)
        return 2 * axis + (sign > 0), normal @ solid.rotation.T, uv
    round_axes = np.array([1, 1, 1 if solid.shape == "ellipsoid" else 0])
    normal = unit / half * round_axes
    cap = (solid.shape == "cylinder") & (np.abs(unit[:, 2]) > 1 - _CAP_EDGE)
    normal = np.where(cap[:, None], np.array([0, 0, 1]) * np.sign(own[:, 2:]), normal)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    around = np.stack([np.arctan2(unit[:, 1], unit[:, 0]) * half[0], own[:, 2]], axis=1)
    return np.zeros(len(xyz), dtype=int), normal @ solid.rotation.T, np.where(cap[:, None], own[:, :2], around)


def _light(scene: Scene, xyz: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """[P] brightness: ambient, lamps (Lambert), darker corners of the room and darker floor under furniture."""
    light = np.full(len(xyz), scene.ambient)
    for lamp in scene.lights:
        way = np.array(lamp.position) - xyz
        squared = np.einsum("ij,ij->i", way, way)
        facing = (np.einsum("ij,ij->i", way, normal) / np.sqrt(squared)).clip(0)
        light += lamp.strength * facing / (1 + _LAMP_FALLOFF * squared)
    room = scene.solids[0].solid
    gaps = np.array(room.half_size) - np.abs(xyz - np.array(room.centre))
    # the nearest wall is the one a point lies on; the second nearest makes the corner
    second = gaps.sum(axis=1) - gaps.max(axis=1) - gaps.min(axis=1)
    light *= 1 - _CORNER_SHADE * np.exp(-second.clip(0) / _CORNER_REACH)
    low = np.exp(-((xyz[:, 2] / _CONTACT_REACH).clip(0) ** 2))
    for x, y, radius in scene.contact:
        near = np.exp(-((((xyz[:, 0] - x) ** 2 + (xyz[:, 1] - y) ** 2) / radius**2) ** 2))
        light *= 1 - _CONTACT_SHADE * low * near
    return light
