"""What one training step changes: the critic's updates, then the student's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fvgen.checks import complaint
from fvgen.diffusion.noise import mixed_seed
from fvgen.distillation.batches import Batches
from fvgen.distillation.checkpoint import trained_parameters
from fvgen.distillation.faults import CLIPS, first_fault
from fvgen.distillation.meters import UpdateMeters
from fvgen.distillation.optimizers import build_optimizer, set_learning_rate
from fvgen.distillation.parallel import Processes, whole
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.settings import TrainConfig
from fvgen.types import TrainBatch

Timer = Callable[[str], AbstractContextManager]
Loss = Callable[[Any, TrainBatch, BatchRandom], Mapping[str, Tensor]]


class TrainedRoles(Protocol):
    """What training knows of roles."""

    def trainable(self) -> dict[str, nn.Module]:
        """By role, the modules with trained parameters; the student's is named ``student``."""

    def modules(self) -> dict[str, nn.Module]:
        """By role, all modules."""


class Trained(Protocol):
    """What training knows of an objective."""

    critic_steps: int

    def student_loss(self, roles: Any, batch: TrainBatch, random: BatchRandom) -> Mapping[str, Tensor]:
        """``loss`` and meters."""

    def critic_loss(self, roles: Any, batch: TrainBatch, random: BatchRandom) -> Mapping[str, Tensor]:
        """``loss`` and meters."""


class DivergedError(RuntimeError):
    """A loss or a gradient is not finite; no weight was touched by it."""


@dataclass
class StepFigures:
    """What the updates of one step say of themselves."""

    wanted: bool
    """Whether more is logged of this step than the norms of its gradients."""
    numbers: dict[str, float] = field(default_factory=dict)
    pools: dict[str, Tensor] = field(default_factory=dict)

    def add(self, phase: str, meters: UpdateMeters, processes: Processes) -> None:
        """Take in the meters of an update of this phase, summed over processes."""
        numbers, pools = meters.totals(processes)
        self.numbers |= {f"{phase}/{name}": value for name, value in numbers.items()}
        self.pools |= {f"{phase}/{name}": values for name, values in pools.items()}


class Updates:
    """The updates of a step, with the optimizers that they go through.

    Args:
        config: how.
        roles: networks, on their device and split over processes.
        objective: whose losses are followed.
        batches: of update after update.
        places: of this process's clips within the global batch.
        processes: the run's processes.
        timer: entered around each phase with its name.
    """

    def __init__(
        self,
        config: TrainConfig,
        roles: TrainedRoles,
        objective: Trained,
        batches: Batches,
        places: range,
        processes: Processes,
        timer: Timer,
    ) -> None:
        self._config, self._roles, self._batches, self._places = config, roles, batches, places
        self._processes, self._timer = processes, timer
        self._order = ["critic"] * objective.critic_steps + ["student"]
        self._losses: dict[str, Loss] = {"critic": objective.critic_loss, "student": objective.student_loss}
        self._trained = roles.trainable()
        self._settings = {role: config.student if role == "student" else config.critic for role in self._trained}
        self._parameters = {role: trained_parameters(module) for role, module in self._trained.items()}
        # A role may have no parameters of its own, but a running mean that resumes.
        self.optimizers = {
            role: build_optimizer(self._settings[role], own) for role, own in self._parameters.items() if own
        }

    def run(self, step: int, figures: StepFigures, newest: Path | None) -> None:
        """All updates of this step.

        Args:
            step: counted from 0.
            figures: takes in what is logged.
            newest: the last checkpoint, for the error's text.

        Raises:
            DivergedError: a loss or a gradient was not finite.
        """
        # Losses draw from BatchRandom alone; a network that draws by itself (dropout) shall resume exactly, too.
        torch.manual_seed(mixed_seed(self._config.seed, self._processes.rank, step))
        for number, phase in enumerate(self._order):
            self._update(step, number, phase, figures, newest)

    def _update(self, step: int, number: int, phase: str, figures: StepFigures, newest: Path | None) -> None:
        update = step * len(self._order) + number
        said_of = partial(
            _said, self._losses[phase], self._roles, (self._config.seed, step, number), self._config, self._processes
        )
        meters = UpdateMeters(self._config.global_batch)
        loss = torch.zeros((), device=self._processes.device)
        for micro in self._batches[update]:
            batch = micro.clips.to(self._processes.device)
            with self._timer(f"{phase} forward"):
                values = said_of(batch, micro.places)
            with self._timer(f"{phase} backward"):
                part = values["loss"] * (len(batch) / len(self._places))
                part.backward()
                loss += part.detach()
            if figures.wanted:
                meters.add(values, batch.latents)
        for role in self.optimizers:
            if (role == "student") != (phase == "student"):
                continue
            with self._timer(f"{phase} gradients"):
                norm = self._gradient_norm(role)
                if not math.isfinite(float(self._processes.sum(loss) + norm)):
                    fault = first_fault(self._roles.modules(), self._batches[update], said_of)
                    cause = None if fault in self._trained else fault
                    raise DivergedError(_diverged(role, step, float(loss), float(norm), newest, cause))
            with self._timer(f"{phase} optimizer"):
                set_learning_rate(self.optimizers[role], self._settings[role], step)
                self.optimizers[role].step()
            figures.numbers[f"{phase}/grad_norm_{role}"] = float(norm)
        with self._timer(f"{phase} optimizer"):
            for optimizer in self.optimizers.values():  # the student's loss reaches into the discriminator, too
                optimizer.zero_grad(set_to_none=True)
            self._end_update()
        if figures.wanted:
            figures.add(phase, meters, self._processes)

    def _gradient_norm(self, role: str) -> Tensor:
        """Norm of the role's gradients over all processes, which it clips."""
        own = list(self._parameters[role].values())
        self._processes.average_gradients(own)
        return whole(nn.utils.clip_grad_norm_(own, self._settings[role].max_grad_norm))

    def _end_update(self) -> None:
        """Let running statistics take in what they saw, once each however many roles share them."""
        parts = {id(part): part for module in self._roles.modules().values() for part in module.modules()}
        for part in parts.values():
            end = getattr(part, "end_of_update", None)
            if end is not None:
                end(self._processes.sum)


def autocast(config: TrainConfig, processes: Processes) -> AbstractContextManager:
    """What losses are computed under."""
    return torch.autocast(processes.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _said(
    loss: Loss,
    roles: Any,
    key: tuple[int, ...],
    config: TrainConfig,
    processes: Processes,
    batch: TrainBatch,
    places: range,
) -> Mapping[str, Tensor]:
    """Loss and meters of clips at these places of an update, whose noise has this key."""
    with autocast(config, processes):
        return loss(roles, batch.to(processes.device), BatchRandom(key, places))


def _diverged(role: str, step: int, loss: float, norm: float, newest: Path | None, cause: str | None) -> str:
    """``cause``: what a learning rate does not help, the clips or a frozen network, where it was one of them."""
    found = f"loss {loss:.4g} with gradient norm {norm:.4g} at step {step + 1}"
    last = f"The last good checkpoint is {newest}" if newest else "There is no checkpoint yet"
    other = "a lower learning rate or --precision fp32"
    if cause == CLIPS:
        next_step = f"The clips hold NaN or infinite values: make them again with scripts/prepare_clips.py. {last}."
    elif cause is not None:
        name = cause.replace("_", " ")
        next_step = (
            f"The {name} made them out of finite values, and it is frozen, so that no learning rate helps: convert or "
            f"download it again (scripts/check_parity.py judges a converted ViewCrafter), look at what it draws at the "
            f"clips' size, or start a new --output with --precision fp32. {last}."
        )
    elif newest:
        # A run's settings cannot be changed while it goes on, but its weights can be exported and started from.
        next_step = (
            f"{last}: end this run there with --steps {int(newest.name.split('-')[1])}, "
            f"which exports its weights, and start a new --output from them with --init-student and {other}, "
            "or from the start where there is no --init-student."
        )
    else:
        next_step = f"{last}: start a new --output with {other}."
    return complaint(f"the {role}'s loss and gradient", "be finite", found, next_step)
