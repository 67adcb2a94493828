"""A matcher that knows the scene: keypoints are projections of true points, a little off, and some matches are wrong.

It stands in for learned matches, which take a minute for five photos, wherever a test is about what is made of matches.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from fvgen.geometry.cameras import project, unproject
from fvgen.poses.features import Features
from fvgen.types import Cameras


@dataclass
class KnownPhoto:
    """A rendered photo with what it shows."""

    rgb: np.ndarray
    """[H, W, 3] uint8"""
    depth: torch.Tensor
    """[H, W]"""
    camera: Cameras
    """One camera."""


@dataclass
class OracleMatcher:
    """Matches of photos whose scene is known; photos of another ``scene`` share nothing with these."""

    photos: list[KnownPhoto]
    scenes: list[int] = field(default_factory=list)
    points_per_photo: int = 250
    noise: float = 0.3
    """Pixels at the photos' own size."""
    wrong: float = 0.05
    """Part of the matches that are accidents."""
    name = "aliked"
    parallel = False

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        scenes = self.scenes or [0] * len(self.photos)
        xyz, of = [], []
        for photo, scene in zip(self.photos, scenes, strict=True):
            world = unproject(photo.depth[None].double(), photo.camera)[0]
            seen = torch.nonzero(photo.depth > 0)
            chosen = seen[torch.from_numpy(rng.choice(len(seen), self.points_per_photo, replace=False))]
            xyz.append(world[chosen[:, 0], chosen[:, 1]])
            of += [scene] * len(chosen)
        self._xyz, self._of = torch.cat(xyz), np.array(of)
        self._rng, self._scenes = rng, scenes

    def extract(self, photo: np.ndarray) -> Features:
        """The points that the photo sees."""
        at = next(i for i, known in enumerate(self.photos) if np.array_equal(known.rgb, photo))
        known = self.photos[at]
        uv, z = (part[0].numpy() for part in project(self._xyz, known.camera))
        height, width = known.depth.shape
        inside = (z > 0) & (uv >= 0).all(axis=1) & (uv < [width, height]).all(axis=1) & (self._of == self._scenes[at])
        column, row = np.clip(uv, 0, [width - 1, height - 1]).astype(int).T
        visible = np.flatnonzero(inside & (np.abs(known.depth.numpy()[row, column] / np.maximum(z, 1e-6) - 1) < 0.01))
        return Features(uv[visible] + self._rng.normal(0, self.noise, (len(visible), 2)), visible)

    def match(self, first: Features, second: Features) -> np.ndarray:
        """Keypoints of one point, and some accidents."""
        _, a, b = np.intersect1d(first.descriptors, second.descriptors, return_indices=True)
        accidents = int(self.wrong * len(a))
        wrong = [self._rng.integers(0, len(side), accidents) for side in (first, second)]
        return np.stack([np.concatenate([a, wrong[0]]), np.concatenate([b, wrong[1]])], axis=1)
