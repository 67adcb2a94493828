"""The released ViewCrafter weights: where they are and what they were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

VariantName = Literal["viewcrafter-512", "viewcrafter-25", "viewcrafter-25-sparse", "viewcrafter-16"]


@dataclass(frozen=True)
class Variant:
    """One released set of weights. The networks are alike; the schedule, the size and the number of frames are not."""

    repository: str
    """Repository on the Hugging Face hub."""
    file: str
    base_scale: float
    """Base scale of the schedule's dynamic rescale."""
    height: int
    width: int
    frames: int


VARIANTS: dict[VariantName, Variant] = {
    "viewcrafter-512": Variant("Drexubery/ViewCrafter_25_512", "model.ckpt", 0.7, 320, 512, 25),
    "viewcrafter-25": Variant("Drexubery/ViewCrafter_25", "model.ckpt", 0.3, 576, 1024, 25),
    "viewcrafter-25-sparse": Variant("Drexubery/ViewCrafter_25_sparse", "model_sparse.ckpt", 0.3, 576, 1024, 25),
    "viewcrafter-16": Variant("Drexubery/ViewCrafter_16", "model.ckpt", 0.3, 576, 1024, 16),
}
