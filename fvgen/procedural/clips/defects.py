"""Exact depth spoilt as stereo spoils it, so that clouds of training clips fail where real ones fail."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from fvgen.geometry.cameras import project, unproject
from fvgen.geometry.depth_filters import with_gaps_closed, without_speckles
from fvgen.geometry.points import depth_to_points
from fvgen.procedural.clips.pictures import fractal_image
from fvgen.types import Cameras, Capture, SceneGeometry

_SAME_SURFACE = 0.03
"""Relative difference of depth within which two photos see the same place."""
_SPECKLE = 60
"""Patches of fewer pixels do not survive the filters of any provider."""
_TWO_SURFACES = 1.08
"""Ratio of depths in a window from which on it sees two surfaces."""
_BEHIND = 0.93
"""A near surface grows over what is behind it from this ratio of depths on."""
_SKY = 1e6
"""Stands in for the depth of the sky where the nearest depth is looked for."""
_LEAST_DEPTH = 0.2
"""Share of the true depth under which no error goes."""
_MEASURED = 0.15
"""Share of clips with a sensor's dense depth."""
_LEAST_CONFIDENCE, _CONFIDENCE_RANGE = 0.5, 0.45
"""Confidence of the worst texture that is kept, and what the best adds to it."""
_CONFIDENCE_OF_TWO, _CONFIDENCE_OF_MORE = 0.75, 0.85
"""Factor of the confidence with two photos, and with more, where a third can disagree."""


@dataclass(frozen=True)
class DepthDefects:
    """How one clip's depth is spoilt. Lengths are in pixels, errors are relative to depth."""

    coverage: float
    """Share of what stereo could match that it does match."""
    needs_two: bool
    """Whether places that one photo alone sees have no depth, as in stereo and unlike measured depth."""
    fattening: int
    """How far near surfaces grow over what is behind them."""
    noise: float
    """Deviation of each pixel; the smooth part is twice that."""
    wrong: float
    """Share of the pixels in smooth patches of wrong depth."""
    floaters: float
    """Share of the pixels in small patches far before the surface."""

    def spoil(self, depths: Tensor, capture: Capture, rng: np.random.Generator) -> SceneGeometry:
        """Geometry from exact depths [V, H, W] of a capture's V photos, 0 in the sky."""
        seen = seen_elsewhere(depths, capture.cameras)
        spoilt, confidences = torch.zeros_like(depths), torch.zeros_like(depths)
        for i in range(len(depths)):
            matchable = (depths[i] > 0) & (seen[i] | (not self.needs_two))
            score = texture_score(capture.photos[i].numpy(), rng)
            depth = self._wrong_depth(depths[i].numpy(), score, rng)
            usable = score[matchable.numpy()]
            least = np.quantile(usable, 1 - self.coverage) if len(usable) else 0.0
            kept = matchable & torch.from_numpy((score >= least) & ~self._torn(depths[i].numpy(), rng))
            spoilt[i] = torch.from_numpy(depth) * kept
            rank = torch.from_numpy(1 / (1 + np.exp(-(score - least)))).float()
            agreement = _CONFIDENCE_OF_TWO if len(depths) == 2 else _CONFIDENCE_OF_MORE
            confidences[i] = (_LEAST_CONFIDENCE + _CONFIDENCE_RANGE * rank) * agreement
        spoilt = without_speckles(with_gaps_closed(spoilt, _SAME_SURFACE, passes=2), _SPECKLE, _SAME_SURFACE)
        confidences = confidences * (spoilt > 0)
        points = depth_to_points(capture.photos, capture.cameras, spoilt, confidences)
        return SceneGeometry(capture.cameras, points, spoilt, confidences)

    def _torn(self, depth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[H, W] bool: beside silhouettes, where a window sees two surfaces, and at the border, where it is cut off."""
        height, width = depth.shape
        wide = 2 * int(rng.integers(0, 4)) + 1
        nearest = cv2.erode(depth, _disc(wide))
        torn = (cv2.dilate(depth, _disc(wide)) > _TWO_SURFACES * nearest) & (field(rng, height, width, 1.0) > -0.3)
        margin = int(rng.integers(0, 5)) if self.needs_two else 0
        inner = np.zeros_like(torn)
        inner[margin : height - margin, margin : width - margin] = True
        return torn | ~inner

    def _wrong_depth(self, depth: np.ndarray, score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[H, W] depth with near surfaces grown, waves, noise, wrong patches and floaters."""
        height, width = depth.shape
        out = depth.copy()
        if self.fattening:
            size = 2 * self.fattening + 1
            near = cv2.erode(np.where(depth > 0, depth, _SKY).astype(np.float32), _disc(size))
            # A window follows the surface with more texture, so it does not grow everywhere alike.
            grown = (near < _BEHIND * depth) & (field(rng, height, width, 1.2) > -0.4)
            out = np.where(grown, near, out)
        waves = field(rng, height, width, 1.6) * 2 + rng.standard_normal(depth.shape)
        out = out * (1 + self.noise * waves * np.exp(-0.3 * score.clip(-3, 3)))
        if self.wrong:
            patch = field(rng, height, width, 1.5)
            patch = patch > np.quantile(patch, 1 - self.wrong)
            out = np.where(patch, out * (1 + rng.normal(0, 0.12) + 0.05 * field(rng, height, width, 1.8)), out)
        if self.floaters:
            patch = field(rng, height, width, 0.9)
            patch = patch > np.quantile(patch, 1 - self.floaters)
            out = np.where(patch, out * rng.uniform(0.45, 0.85), out)
        return np.where(depth > 0, np.maximum(out, _LEAST_DEPTH * depth), 0).astype(np.float32)


def random_defects(rng: np.random.Generator) -> DepthDefects:
    """Defects of a random severity: from a sensor's dense depth to a few scraps on the best texture."""
    measured = rng.random() < _MEASURED
    return DepthDefects(
        coverage=rng.uniform(0.85, 1.0) if measured else rng.beta(1.2, 1.2) * 0.85 + 0.12,
        needs_two=not measured,
        fattening=int(rng.integers(0, 3 if measured else 6)),
        noise=float(10 ** rng.uniform(-3.3, -2.0)),
        wrong=float(rng.choice([0.0, rng.uniform(0.0, 0.06)], p=[0.3, 0.7])),
        floaters=float(rng.choice([0.0, rng.uniform(0.0, 0.012)], p=[0.5, 0.5])),
    )


def field(rng: np.random.Generator, height: int, width: int, falloff: float) -> np.ndarray:
    """[H, W] smooth random field of mean 0 and deviation about 1; the larger ``falloff``, the smoother."""
    noise = fractal_image(rng, 1, falloff)[..., 0]
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)


def texture_score(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[H, W] how well stereo matches each place of a photo [3, H, W]: log contrast in its window, and luck."""
    grey = photo.mean(axis=0).astype(np.float32)
    right, down = cv2.Scharr(grey, cv2.CV_32F, 1, 0) / 32, cv2.Scharr(grey, cv2.CV_32F, 0, 1) / 32
    energy = cv2.GaussianBlur(right**2 + down**2, (0, 0), rng.uniform(2, 4))
    contrast = 0.5 * np.log(energy + 1e-6)
    score = (contrast - contrast.mean()) / max(float(contrast.std()), 1e-3)
    height, width = grey.shape
    # Luck in small places, and in large ones: a whole thing that no neighbour shows well.
    luck = rng.uniform(0.2, 0.8) * field(rng, height, width, 1.0)
    return score + luck + rng.uniform(0, 2.0) * field(rng, height, width, 1.8)


def seen_elsewhere(depths: Tensor, cameras: Cameras) -> Tensor:
    """[V, H, W] bool: another photo sees the same place, by exact depths [V, H, W]."""
    world = unproject(depths, cameras).flatten(1, 2)
    seen = torch.zeros(depths.shape, dtype=torch.bool).flatten(1)
    size = torch.tensor([cameras.width, cameras.height])
    for i in range(len(depths)):
        uv, z = project(world[i], cameras)
        for j in range(len(depths)):
            if j == i:
                continue
            inside = (z[j] > 0) & (uv[j] >= 0).all(1) & (uv[j] < size).all(1)
            pixel = torch.where(inside[:, None], uv[j], 0.0).long()
            surface = depths[j][pixel[:, 1], pixel[:, 0]]
            seen[i] |= inside & ((z[j] - surface).abs() < _SAME_SURFACE * surface)
    return seen.view(depths.shape)


def _disc(size: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
