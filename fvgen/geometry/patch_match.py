"""Depth refined by planes that neighbouring pixels hand on and that other photos' depth must bear out.

Each pixel has a plane of its own, depth and orientation. It takes over planes of pixels nearby, or a random change of
its own, when its window then correlates better with the other photos: Bleyer, Rhemann and Rother, "PatchMatch Stereo",
BMVC 2011; all pixels of one colour of a chessboard at once: Galliani, Lasinger and Schindler, "Massively Parallel
Multiview Stereopsis by Surface Normal Diffusion", ICCV 2015. A plane that does not return to its pixel by way of the
depth found in the other photo scores lower: Schönberger et al., "Pixelwise View Selection for Unstructured Multi-View
Stereo", ECCV 2016, section 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvgen.geometry.correlation import VARIANCE_FLOOR, source_pixels
from fvgen.geometry.view_pairs import ViewPairs
from fvgen.numba_compile import run_parallel
from fvgen.types import Cameras, Progress, no_progress

_OFFSETS = np.array(
    [(0, -1), (0, 1), (-1, 0), (1, 0), (0, -5), (0, 5), (-5, 0), (5, 0), (-3, -2), (3, 2), (2, -3), (-2, 3)]
)
"""Right and down to the pixels whose planes are tried; all of the chessboard's other colour."""
_COARSE, _FINE = (0.1, 0.25), (0.002, 0.025)
"""Random changes in the first and the last step of a round: of inverse depth relative to it, and of the slope relative
to the steepest."""
_TRIALS = ((1, 0), (0, 1), (0.3, 0.3))
"""Random changes tried, as multiples of these: depth, slope, both a little."""


@dataclass(frozen=True)
class PatchMatch:
    """How planes are refined."""

    steps: tuple[int, ...] = (4, 3, 3)
    """Steps of each round; from the second on, planes must agree with what the round before found in other photos."""
    consistency: float = 0.2
    """Correlation that one pixel of disagreement costs, up to three pixels."""
    radius: int = 6
    """The correlation window reaches this many pixels from its middle."""
    stride: int = 3
    """Every stride-th pixel of the window counts, in x and y."""
    contrast: float = 0.15
    """Grey difference from the middle at which a pixel of the window counts for 1/e."""
    steepest: float = 2.0
    """Tangent of the steepest slant to the image plane."""
    absent: float = -0.2
    """Correlation assumed with a photo that does not see the pixel."""

    def refine(
        self, greys: Tensor, cameras: Cameras, pairs: ViewPairs, depths: Tensor, progress: Progress = no_progress
    ) -> tuple[Tensor, Tensor]:
        """Depth and its correlation, [V, H, W] each; computed on the CPU, returned on the device of ``depths``.

        Args:
            greys: [V, H, W], NaN for missing pixels.
            cameras: V cameras.
            pairs: neighbours and range of each photo; one without them keeps its depth and gets correlation 0.
            depths: [V, H, W] to start from; where 0, a random depth of the range.
            progress: called after each photo and round.
        """
        views = [_View(greys.cpu().float(), cameras.to("cpu"), i, pairs, depth) for i, depth in enumerate(depths.cpu())]
        chosen = [view for view in views if view.neighbours]
        for number, steps in enumerate(self.steps):
            found = [view.planes[0].copy() for view in views]
            for i, view in enumerate(chosen):
                self._round(view, found, self.consistency if number else 0.0, steps)
                progress(number * len(chosen) + i + 1, len(self.steps) * len(chosen), "refining depth")
        for view in chosen:  # the final scores come from the photos alone
            view.see([other.planes[0] for other in views])
            self._improve(view, 0.0, _OFFSETS[:0], np.empty((0, 3, *view.scores.shape), np.float32))
        refined = torch.stack([view.depth() for view in views])
        return refined.to(depths), torch.stack([torch.from_numpy(view.scores) for view in views]).to(depths)

    def _round(self, view: _View, found: list[NDArray[Any]], consistency: float, steps: int) -> None:
        view.see(found)
        for depth, slope in np.geomspace(_COARSE, _FINE, steps):
            noise = view.random.standard_normal((len(_TRIALS), 3, *view.scores.shape), dtype=np.float32)
            for trial, (far, steep) in zip(noise, _TRIALS, strict=True):
                trial *= np.array([far * depth, steep * slope, steep * slope], np.float32)[:, None, None]
            self._improve(view, consistency, _OFFSETS, noise)

    def _improve(self, view: _View, consistency: float, offsets: NDArray[Any], noise: NDArray[Any]) -> None:
        from fvgen.geometry.patch_match_numba import improve

        best = 2 if len(view.neighbours) > 2 else 1
        rules = best, np.float32(self.absent), np.float32(VARIANCE_FLOOR), np.float32(consistency)
        for colour in (0, 1):
            run_parallel(
                improve,
                len(view.grey),
                colour,
                view.grey,
                view.scene,
                rules,
                self.radius,
                self.stride,
                np.float32(self.contrast),
                offsets,
                noise,
                view.limits,
                np.float32(self.steepest / view.focal),
                view.planes,
                view.scores,
            )


class _View:
    """One photo's planes and what its neighbours show."""

    def __init__(self, greys: Tensor, cameras: Cameras, i: int, pairs: ViewPairs, depth: Tensor) -> None:
        """``greys`` [V, H, W] and V ``cameras`` on the CPU; ``depth`` [H, W] to start from."""
        self.random = np.random.default_rng(i)
        self.grey = greys[i].contiguous().numpy()
        self.focal = float(cameras.K[i, 0, 0])
        self.scores = np.zeros(self.grey.shape, np.float32)
        span = pairs.ranges[i]
        self.neighbours = pairs.neighbours[i] if span is not None else []
        self.planes = np.zeros((3, *self.grey.shape), np.float32)
        if span is None or not self.neighbours:
            self.planes[0] = np.where(depth > 0, 1 / depth.clamp_min(1e-12), 0)
            return
        self.limits = np.float32(1 / span[1]), np.float32(1 / span[0])
        known = depth.numpy() > 0
        self.planes[0] = np.where(
            known, 1 / np.where(known, depth.numpy(), 1), self.random.uniform(*self.limits, self.grey.shape)
        )
        slants = self.random.standard_normal((2, *self.grey.shape), dtype=np.float32)
        self.planes[1:] = 0.4 * slants * self.planes[0] / self.focal
        there = source_pixels(cameras, i, self.neighbours)
        back = [source_pixels(cameras, j, [i]) for j in self.neighbours]
        self._images = greys[self.neighbours].contiguous().numpy()
        self._there = tuple(part.float().contiguous().numpy() for part in there)
        self._back = tuple(torch.cat(parts).float().contiguous().numpy() for parts in zip(*back, strict=True))

    def see(self, found: list[NDArray[Any]]) -> None:
        """Take note of the inverse depth [H, W] that each photo has found."""
        self.scene = self._images, *self._there, np.stack([found[j] for j in self.neighbours]), *self._back

    def depth(self) -> Tensor:
        """[H, W], 0 where unknown."""
        near = torch.from_numpy(self.planes[0])
        return torch.where(near > 0, 1 / near.clamp_min(1e-12), 0.0)
