"""Recipes by name. Each is a frozen dataclass that is its own settings, put together from parts; none inherits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from fvgen.distillation.objectives.avdm2 import AVDM2
from fvgen.distillation.objectives.causvid import CausVid, CausVidRegression
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.dmd2 import DMD2
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.types import TrainBatch


class Objective(Protocol):
    """What the training loop and `fvgen.distillation.roles.build_roles` ask of a recipe."""

    @property
    def critic_steps(self) -> int:
        """Critic updates for one of the student."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` [] to descend for the student; the rest are detached meters."""

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` [] to descend for fake score and discriminator; the rest are detached meters."""


OBJECTIVES: Mapping[str, type] = {
    "diffusion": Diffusion,
    "fvgen_stage1": FVGenStage1,
    "fvgen_stage2": FVGenStage2,
    "dmd2": DMD2,
    "causvid_regression": CausVidRegression,
    "causvid": CausVid,
    "avdm2": AVDM2,
}
"""By name."""
