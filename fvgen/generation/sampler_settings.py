"""How each kind of network is sampled unless the caller says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fvgen.checks import require

Sampler = Literal["few_step", "ddim"]


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled."""

    num_inference_steps: int
    guidance_scale: float
    guidance_rescale: float
    eta: float

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "eta", "lie in [0, 1]", self.eta, "0 is deterministic, 1 is ViewCrafter's.")
        require(
            0 <= self.guidance_rescale <= 1,
            "guidance_rescale",
            "lie in [0, 1]",
            self.guidance_rescale,
            "0.7 is ViewCrafter's.",
        )


SAMPLING: dict[str, Sampling] = {
    "few_step": Sampling(num_inference_steps=4, guidance_scale=1.0, guidance_rescale=0.0, eta=0.0),
    "ddim": Sampling(num_inference_steps=50, guidance_scale=7.5, guidance_rescale=0.7, eta=1.0),
}
"""Defaults: of a distilled student, and ViewCrafter's own for the teacher."""
