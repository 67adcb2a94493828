"""From a discriminator's logits to the density ratio r, and to weights h(r) whose mean is 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fvgen.checks import require

RATIO_RANGE = (0.1, 20.0)
"""Bounds of r. With it bounded, a clamp of the logits at +-10 would never act: ln 0.1 = -2.3, ln 20 = 3.0."""
LOWEST_LOG_RATIO = math.log(RATIO_RANGE[0])
"""Logit under which r no longer follows the discriminator."""


class DensityRatio(nn.Module):
    """r = p_real / p_fake = e^logit of a discriminator between real and fake (FVGen eq. 7), kept within bounds.

    Weights h(r) are divided by their running mean over updates, so that the learning rate means the same for every
    divergence. The mean within a batch would not do: for one clip per process it makes every weight 1. The running
    mean stands still within an update and takes in what it saw at `end_of_update`, so that neither the order of
    micro-batches nor the number of processes matters.

    Args:
        ratio_range: r is clamped to these two.
        decay: of the running mean; younger than 1 / (1 - decay) updates it is the plain average.
    """

    mean: Tensor
    updates: Tensor

    def __init__(self, ratio_range: tuple[float, float] = RATIO_RANGE, decay: float = 0.99) -> None:
        super().__init__()
        require(
            0 < ratio_range[0] <= 1 <= ratio_range[1],
            "ratio_range",
            "be positive and hold 1",
            ratio_range,
            "(0.1, 20) is usual.",
        )
        require(0 <= decay < 1, "decay", "lie in [0, 1)", decay, "0.99 is usual.")
        self.ratio_range, self.decay = ratio_range, decay
        self.register_buffer("mean", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._seen = torch.zeros(2, dtype=torch.float64)

    def forward(self, logits: Tensor) -> Tensor:
        """r [B] float32 of logits [B]."""
        low, high = map(math.log, self.ratio_range)
        return logits.float().clamp(low, high).exp()

    def normalise(self, h: Tensor) -> Tensor:
        """Weights h [B] over their running mean; h is remembered for the next `end_of_update`."""
        seen = h.detach().double()
        self._seen += torch.stack([seen.sum(), seen.new_tensor(float(seen.numel()))]).cpu()
        return h / self.mean.to(h)

    def end_of_update(self, reduce: Callable[[Tensor], Tensor]) -> None:
        """Take what `normalise` saw into the running mean; ``reduce`` sums a tensor over processes."""
        total, count = reduce(self._seen).tolist()
        self._seen.zero_()
        if count == 0:
            return
        self.updates += 1
        share = max(1 - self.decay, 1 / int(self.updates))
        self.mean.lerp_(self.mean.new_tensor(total / count), share)
