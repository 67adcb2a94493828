"""How much a generated view counts in the loss of a splat."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ViewWeights:
    """Weights of a generated view's pixels; a photo's pixel counts 1."""

    covered: float = 0.35
    """Where the point cloud was seen."""
    holes: float = 0.15
    """Where the generator made them up, times their confidence."""
    least: float = 0.01
    """No pixel counts less: where nothing is supervised at all, fog grows."""

    def of(self, covered: Tensor, confidence: Tensor) -> Tensor:
        """Weights from coverage [...] (bool) and confidence [...] in [0, 1]."""
        return torch.where(covered, self.covered, self.holes * confidence).clamp_min(self.least)
