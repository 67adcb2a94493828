"""What every recipe is to the training step: roles, counts of updates, and two losses."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


class Objective(ABC):
    """A recipe of distillation.

    Each is a frozen dataclass of its own settings, put together from terms such as `Adversarial`. None inherits from
    another one.
    """

    critic_steps: int = 0
    """Critic updates for each update of the student."""
    timesteps: tuple[int, ...] = ()
    """Timesteps of the student, largest first; none where a teacher is trained."""
    adversarial: Adversarial | None = None
    """How a discriminator sees clips; None without one."""

    @property
    def frame_matching(self) -> FrameMatching | None:
        """How frames are matched with an image model; None without one."""
        return None

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Names of the roles that it reads."""

    @property
    @abstractmethod
    def trains(self) -> tuple[str, ...]:
        """Names of the roles that it trains."""

    @abstractmethod
    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` [] that the student descends; all other entries are detached meters."""

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss`` [] that fake score and discriminator descend; all other entries are detached meters.

        Raises:
            RuntimeError: the recipe trains no critic.
        """
        raise RuntimeError(f"{type(self).__name__} has critic_steps 0: it trains no critic.")
