"""Randomness of a training step that no split of its batch over processes or micro-batches can change.

Every clip of the global batch has a stream of its own, known by (seed, step, update, place in the global batch). What
must be alike in all processes has a shared one: which sampler step to learn from, for one, since under FSDP2 every
process must call the same networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.diffusion.noise import seeded_generator

_SHARED = 2**32 - 1
"""Takes a clip's place in the key of the shared stream."""


class BatchRandom:
    """The randomness of B clips in one update: numbers are drawn on the CPU, so no device changes them.

    Args:
        key: what the update is known by, such as (seed, step, number of the update within the step).
        clips: place of each clip within the global batch.
    """

    def __init__(self, key: Sequence[int], clips: Sequence[int]) -> None:
        require(len(clips) > 0, "clips", "hold at least one", list(clips), "Give each clip's place in the batch.")
        self._clips = [seeded_generator(*key, clip) for clip in clips]
        self._shared = seeded_generator(*key, _SHARED)

    def __len__(self) -> int:
        return len(self._clips)

    def randn_like(self, x: Tensor) -> Tensor:
        """The next standard normal noise [B, ...], of x's shape, dtype and device."""
        self._check(x)
        return self._each(lambda generator: torch.randn(x.shape[1:], generator=generator)).to(x)

    def rand(self, *shape: int) -> Tensor:
        """[B, *shape] float32 uniform in [0, 1), on the CPU."""
        return self._each(lambda generator: torch.rand(shape, generator=generator))

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        """[B, *shape] int64 in low .. high - 1, on the CPU: timesteps, for one."""
        return self._each(lambda generator: torch.randint(low, high, shape, generator=generator))

    def choose(self, total: int, count: int) -> Tensor:
        """[B, count] int64 different numbers of 0 .. total - 1, on the CPU: frames of each clip, for one."""
        return self._each(lambda generator: torch.randperm(total, generator=generator)[:count])

    def shared_randint(self, low: int, high: int) -> int:
        """One number in low .. high - 1 for all clips of the global batch: the sampler's step, for one."""
        return int(torch.randint(low, high, (), generator=self._shared))

    def _each(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        return torch.stack([draw(generator) for generator in self._clips])

    def _check(self, x: Tensor) -> None:
        require(len(x) == len(self), "x", f"hold {len(self)} clips", len(x), "Draw for the whole micro-batch.")
