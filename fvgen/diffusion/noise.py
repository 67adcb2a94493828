"""Noise that depends on the seed, the clip and the frame, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import require


class ClipNoise:
    """Standard normal noise for a batch of clips: call it like ``randn_like``.

    Every frame of every clip has a generator of its own on the CPU, so a clip gets the same numbers whichever clips
    share its batch, on whichever device, and its first frames the same however many follow.

    Args:
        seed: random seed of the whole run, 0 or more.
        clips: number of each clip of the batch within the run, each 0 or more.
        frames: F.
        stream: tells apart independent uses of one seed.
        first_frame: number of the first of the F frames within its clip.
    """

    def __init__(self, seed: int, clips: Sequence[int], frames: int, stream: int = 0, first_frame: int = 0) -> None:
        require(
            seed >= 0 and all(clip >= 0 for clip in clips),
            "seed and clips",
            "be 0 or more",
            (seed, list(clips)[:4]),
            "Count clips from 0.",
        )
        self._generators = [
            [seeded_generator(seed, clip, frame, stream) for frame in range(first_frame, first_frame + frames)]
            for clip in clips
        ]

    def __call__(self, like: Tensor) -> Tensor:
        """The next noise, of the shape [B, F, ...], dtype and device of ``like``."""
        lead = (len(self._generators), len(self._generators[0]))
        require(like.shape[:2] == lead, "like", f"begin with [B, F] = {lead}", tuple(like.shape), "Use one clip size.")
        drawn = [torch.stack([torch.randn(like.shape[2:], generator=g) for g in clip]) for clip in self._generators]
        return torch.stack(drawn).to(like)


def seeded_generator(*key: int) -> torch.Generator:
    """A generator on the CPU for a key of whole numbers, 0 or more (`mixed_seed`)."""
    return torch.Generator().manual_seed(mixed_seed(*key))


def mixed_seed(*key: int) -> int:
    """A 64-bit seed for a key of whole numbers, 0 or more: neighbouring keys have unrelated streams."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
