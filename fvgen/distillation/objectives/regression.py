"""A regression of the student's clips to the real ones."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch


@dataclass(frozen=True)
class Regression:
    """The mean squared distance of the student's clips from the real ones, which the paper does without.

    Noise says nothing about a clip, so it pulls towards the mean of all clips that fit the photos: the smallest error,
    at the price of sharpness. A small network whose teacher leaves grain needs it; a large one is better off without.
    """

    weight: float = 0.0
    """Weight of the squared distance from the real clips. 0 switches it off."""

    def __post_init__(self) -> None:
        require(self.weight >= 0, "weight", "be 0 or more", self.weight, "0 switches it off.")

    def added_to(
        self, loss: Tensor, meters: dict[str, Tensor], z: Tensor, batch: TrainBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A loss of the student's clips z [B, F, C, h, w] and its meters, with this term added to both."""
        if self.weight == 0:
            return loss, meters
        distance = (z.float() - batch.latents.to(z.device)).square().mean()
        return loss + self.weight * distance, {**meters, "regression": distance.detach()}
