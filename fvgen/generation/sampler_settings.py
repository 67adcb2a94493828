"""How each kind of network is sampled by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from fvgen.checks import require

Sampler = Literal["few_step", "ddim"]


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled."""

    num_inference_steps: int
    guidance_scale: float
    """1 for none (see `fvgen.diffusion.guidance.guide`)"""
    guidance_rescale: float
    eta: float
    """DDIM's: 0 deterministic, 1 ancestral"""

    def __post_init__(self) -> None:
        require(0 <= self.eta <= 1, "eta", "lie in [0, 1]", self.eta, "0 is deterministic, 1 is ViewCrafter's.")
        rescale = self.guidance_rescale
        require(0 <= rescale <= 1, "guidance_rescale", "lie in [0, 1]", rescale, "0.7 is ViewCrafter's.")


SAMPLING: dict[Sampler, Sampling] = {
    "few_step": Sampling(num_inference_steps=4, guidance_scale=1.0, guidance_rescale=0.0, eta=0.0),
    "ddim": Sampling(num_inference_steps=50, guidance_scale=7.5, guidance_rescale=0.7, eta=1.0),
}
"""Defaults: for a distilled student, and ViewCrafter's own for the teacher."""


def sampling_for(sampler: Sampler, guidable: bool, **asked: float | None) -> Sampling:
    """A sampler's defaults, with what is asked for in their place.

    Args:
        sampler: a key of `SAMPLING`.
        guidable: whether the network has towers; one without has no guidance by default.
        asked: fields of `Sampling`; None stands for the default.

    Raises:
        InputError: eta for another sampler than ddim, or a value out of range.
    """
    eta = asked.get("eta")
    fits = sampler == "ddim" or eta is None
    require(fits, "eta", f"be left out with the sampler {sampler}", eta, "It belongs to DDIM.")
    usual = asdict(SAMPLING[sampler]) | ({} if guidable else {"guidance_scale": 1.0})
    return Sampling(**usual | {name: value for name, value in asked.items() if value is not None})
