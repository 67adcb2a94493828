"""Procedural training clips: random scenes, smooth cameras, exact depth, and clouds with the defects of real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.clip import Clip
from fvgen.geometry.cameras import look_at
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.geometry.points import depth_to_points
from fvgen.geometry.trajectory import path_between
from fvgen.procedural.clips.defects import random_defects
from fvgen.procedural.clips.layouts import make_scene
from fvgen.procedural.clips.photo import exposures, random_camera, random_exposures
from fvgen.procedural.clips.scene import ClipScene, draw, exact_depth
from fvgen.types import CameraPath, Cameras, Capture, PointCloud, SceneGeometry

ProceduralGeometry = Literal["defects", "plane-sweep", "exact"]
_TRIES = 40
"""Scenes and camera walks looked at before giving up on a seed; a few are needed."""
_SCENE_STREAM, _GEOMETRY_STREAM, _CHOICE_STREAM = 1, 2, 3
"""Random numbers of their own for the scene, for the cloud and for the kind of cloud, beside those of the cameras."""

_PHOTO_COUNTS = {2: 0.4, 3: 0.35, 4: 0.25}
"""Photos of a walk and how often there are so many."""
_STEPS = (0.1, 1.2)
"""Radians about the focus from one photo to the next."""
_FOCAL = (0.65, 1.25)
"""Focal length over the longer side: from a phone's wide lens to a standard one."""
_WINDOWS = {1: 0.7, 2: 0.2, 3: 0.1}
"""Windows that a long clip is drawn in, and how often there are so many."""
_MOST_POSE_ERROR = 1.0
"""Pixels by which estimated cameras are turned at most, on the mean."""

_LEAST_SOLID, _LEAST_SOLID_BETWEEN = 0.4, 0.2
"""Share of a photo, and of a frame between photos, that is not sky."""
_NEAR_SHARE = 0.02
"""Share of a frame's pixels that may be nearer than `_LEAST_NEAR`."""
_LEAST_NEAR, _LEAST_TYPICAL = 0.12, 0.35
"""Least depth of all but the nearest pixels, and on the median, as a share of the scene's reach."""
_LEAST_CONTRAST = (0.02, 0.16)
"""Deviation of a photo's pixels, drawn anew for every try, below which it is left out."""

_SPARSE_POINTS = 400
"""Stand-in for structure from motion: what plane sweep takes its depth range from."""
_HYPOTHESES = 64
"""Depths that plane sweep tries; half of what it takes for real captures."""
_LEAST_PATCH, _PATCH_PIXELS = 100, 480 * 320
"""Plane sweep's usual least patch of depth, in pixels, and the size of photo that it is meant for."""


@dataclass(frozen=True)
class ClipLayout:
    """Frames of a clip and their size in pixels."""

    frames: int = 8
    height: int = 160
    width: int = 256

    def __post_init__(self) -> None:
        require(self.frames >= 3, "frames", "be at least 3", self.frames, "Photos at both ends leave none to draw.")
        for name in ("height", "width"):
            value = getattr(self, name)
            require(value >= 16, name, "be at least 16 pixels", value, "Ask for larger clips.")


def procedural_clip(seed: int, layout: ClipLayout = ClipLayout()) -> tuple[Clip, Tensor]:
    """A clip and the exact depth [V, H, W] of its photos (0 in the sky); the same arguments, the same clip.

    Raises:
        InputError: no view of this seed's scenes is worth looking at.
    """
    for attempt in range(_TRIES):
        rng = np.random.default_rng([seed, attempt])
        scene = make_scene([seed, attempt, _SCENE_STREAM])
        photos = _photo_cameras(scene, layout, rng)
        path, known = _window(photos, layout.frames, rng)
        if _worth_seeing(scene, photos, path.cameras):
            clip = _photograph(f"{seed:09d}", scene, photos, path, known, rng)
            if clip is not None:
                return clip, exact_depth(scene, photos)
    raise InputError(complaint(f"clip {seed}", "show something", f"{_TRIES} empty views", "Use another seed."))


def procedural_geometry(clip: Clip, depths: Tensor, seed: int, kind: ProceduralGeometry = "defects") -> SceneGeometry:
    """The cloud of a procedural clip's photos.

    Args:
        clip: as from `procedural_clip`.
        depths: [V, H, W] exact, with it.
        seed: decides the defects.
        kind: exact depth spoilt as stereo spoils it (fast), real plane sweep, or exact depth as it is.
    """
    rng = np.random.default_rng([seed, _GEOMETRY_STREAM])
    if kind == "exact":
        points = depth_to_points(clip.capture.photos, clip.capture.cameras, depths, torch.ones_like(depths))
        return SceneGeometry(clip.capture.cameras, points, depths, (depths > 0).float())
    if kind == "defects":
        return random_defects(rng).spoil(depths, clip.capture, rng)
    cloud = depth_to_points(clip.capture.photos, clip.capture.cameras, depths, torch.ones_like(depths))
    some = torch.from_numpy(rng.choice(len(cloud), min(_SPARSE_POINTS, len(cloud)), replace=False))
    sparse = PointCloud(cloud.xyz[some], cloud.rgb[some], cloud.confidence[some])
    capture = Capture(clip.capture.photos, clip.capture.cameras, clip.capture.valid, sparse)
    speckle = max(round(_LEAST_PATCH * capture.photos[0, 0].numel() / _PATCH_PIXELS), 10)
    return PlaneSweep(hypotheses=_HYPOTHESES, speckle=speckle).reconstruct(capture)


@dataclass(frozen=True)
class ProceduralScene:
    """A block of seeds, stored together."""

    first: int
    """Seed of the first clip."""
    count: int
    """Clips in the block."""
    layout: ClipLayout = ClipLayout()
    plane_sweep: float = 0.0
    """Share of the clips whose cloud comes from plane sweep."""
    geometry: ProceduralGeometry = "defects"
    """Where the other clips' clouds come from."""

    @property
    def name(self) -> str:
        """Name of its shard: size and first seed."""
        return f"procedural_{self.layout.width}x{self.layout.height}_{self.first:09d}"

    def clips(self) -> Iterator[tuple[Clip, SceneGeometry]]:
        """The clips with the cloud of their photos."""
        for seed in range(self.first, self.first + self.count):
            clip, depths = procedural_clip(seed, self.layout)
            swept = np.random.default_rng([seed, _CHOICE_STREAM]).random() < self.plane_sweep
            yield clip, procedural_geometry(clip, depths, seed, "plane-sweep" if swept else self.geometry)


def _photo_cameras(scene: ClipScene, layout: ClipLayout, rng: np.random.Generator) -> Cameras:
    """Two to four cameras along a walk about the scene's focus, in its order; float64."""
    count = int(rng.choice(list(_PHOTO_COUNTS), p=list(_PHOTO_COUNTS.values())))
    least, most = np.radians(scene.span)
    step = min(math.exp(rng.uniform(math.log(_STEPS[0]), math.log(_STEPS[1]))), 0.9 * (most - least) / (count - 1))
    along = np.arange(count) - (count - 1) / 2 + rng.normal(0, 0.1, count)
    middle = rng.uniform(-1, 1) * max((most - least) / 2 - step * (count - 1) / 2, 0) + (least + most) / 2
    azimuth = (middle + step * along).clip(least, most)
    elevation = np.radians(rng.uniform(*scene.rise) + rng.normal(0, 0.15 * np.degrees(step) + 0.3, count))
    reach = scene.reach * rng.uniform(0.75, 1.1) * (1 + rng.normal(0, 0.15 * step + 0.01, count))
    way = np.stack(
        [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)], axis=1
    )
    eye = np.array(scene.focus) + reach[:, None] * way
    # some walks circle their subject, in others the camera looks straight ahead or about
    follow = rng.uniform(0, 1) ** 3
    target = np.array(scene.focus) + follow * (eye - eye.mean(axis=0))
    target += rng.normal(0, 0.12, 3) * scene.reach + rng.normal(0, 0.15 * step, (count, 3)) * scene.reach
    up = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.03, (count, 3))
    c2w = look_at(torch.from_numpy(eye), torch.from_numpy(target), torch.from_numpy(up))
    focal = rng.uniform(*_FOCAL) * max(layout.width, layout.height)
    K = torch.tensor([[focal, 0, layout.width / 2], [0, focal, layout.height / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(c2w, K.repeat(count, 1, 1), layout.height, layout.width)


def _window(photos: Cameras, frames: int, rng: np.random.Generator) -> tuple[CameraPath, Tensor]:
    """F frames between two neighbouring photos: all there are, or a part as a long clip is drawn in; known [F]."""
    clip = int(rng.integers(len(photos) - 1))
    windows = int(rng.choice(list(_WINDOWS), p=list(_WINDOWS.values())))
    length = windows * (frames - 1) + 1
    path = path_between(photos, list(range(len(photos))), False, length)
    window = int(rng.integers(windows))
    start = clip * (length - 1) + window * (frames - 1)
    known = torch.zeros(frames, dtype=torch.bool)
    known[0] = True  # a photo, or the last frame that the window before has drawn
    known[-1] = window == windows - 1
    return path.part(torch.arange(start, start + frames)), known


def _worth_seeing(scene: ClipScene, photos: Cameras, path: Cameras) -> bool:
    """No camera stands in something or before a wall, and no photo is mostly sky."""
    for cameras, least in ((photos, _LEAST_SOLID), (path, _LEAST_SOLID_BETWEEN)):
        depth = exact_depth(scene, cameras).flatten(1)
        solid = depth > 0
        if float(solid.float().mean(1).min()) < least:
            return False
        near = torch.where(solid, depth, math.inf).quantile(_NEAR_SHARE, dim=1)
        typical = torch.where(solid, depth, math.inf).median(dim=1).values
        if float(near.min()) < _LEAST_NEAR * scene.reach or float(typical.min()) < _LEAST_TYPICAL * scene.reach:
            return False
    return True


def _photograph(
    name: str, scene: ClipScene, photos: Cameras, path: CameraPath, known: Tensor, rng: np.random.Generator
) -> Clip | None:
    """Draw the photos and the frames; frames at which a photo stands are that photo. None when little shows."""
    light = draw(scene, photos)
    camera = random_camera(light, rng)
    steps = random_exposures(len(photos), rng)
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 31)))
    taken = camera.develop(light, steps, generator)
    if float(taken.std(dim=(2, 3)).mean()) < rng.uniform(*_LEAST_CONTRAST):  # flat scenes are many and teach little
        return None
    start, end = path.ends[(path.photo < 0).nonzero()[0, 0]].tolist()
    along = exposures((steps[start], steps[end]), path.position)
    frames = camera.develop(draw(scene, path.cameras), along, generator)
    here = path.photo >= 0
    frames[here] = taken[path.photo[here]]
    valid = torch.ones(len(taken), *taken.shape[2:], dtype=torch.bool)
    single = CameraPath(path.cameras.to(torch.float32), path.ends, path.position, path.photo)
    estimated = _as_estimated(photos, rng).to(torch.float32)
    return Clip(name, Capture(taken, estimated, valid), single, frames, known)


def _as_estimated(cameras: Cameras, rng: np.random.Generator) -> Cameras:
    """The cameras as structure from motion would find them: turned by about half a pixel."""
    pixels = rng.uniform(0, _MOST_POSE_ERROR)
    c2w = cameras.c2w.clone()
    for i in range(len(cameras)):
        x, y, z = rng.normal(0, pixels / float(cameras.K[i, 0, 0]), 3)
        turn, _ = np.linalg.qr(np.eye(3) + np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]))
        turn *= np.sign(np.diag(turn))
        c2w[i, :3, :3] = c2w[i, :3, :3] @ torch.from_numpy(turn)
    return Cameras(c2w, cameras.K, cameras.height, cameras.width)
