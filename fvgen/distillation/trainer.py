"""A training run: `train` is the loop, `Trainer.step` one step of it, `Trainer._update` one update of a step.

Stages are runs and recipes are objectives: neither shows in here.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.diffusion.noise import mixed_seed
from fvgen.distillation import checkpoint
from fvgen.distillation.averaging import start_average, update_average
from fvgen.distillation.batches import Batches, ClipSource
from fvgen.distillation.checkpoint import CHECKPOINTS, TrainState, trained_parameters
from fvgen.distillation.faults import diverged, first_fault
from fvgen.distillation.meters import Log, StepFigures, UpdateMeters
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.optimizers import build_optimizer, set_learning_rate
from fvgen.distillation.parallel import Processes, whole
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import TrainConfig, optimizer_of
from fvgen.models.folder import align_weights
from fvgen.types import Progress, no_progress

Phase = Literal["critic", "student"]
Preview = Callable[[int, Mapping[str, Tensor]], Mapping[str, float]]
"""``preview(step, ema)`` samples held-out clips and returns figures, ``error`` among them where it was measured."""
Timer = Callable[[str], AbstractContextManager]
"""``timer(name)`` is entered around each phase of an update."""


class Trainer:
    """Networks, optimizers and clips of a run, and the step that trains them.

    Args:
        config: settings of the run.
        source: clips.
        roles: networks, built and frozen; moved to the processes' device here.
        objective: the recipe.
        processes: the run's processes.
        timer: entered around each phase; the default names them for torch's profiler.

    Raises:
        InputError: the batch cannot be shared among the processes, or there are no clips.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: ClipSource,
        roles: Roles,
        objective: Objective,
        processes: Processes,
        timer: Timer = record_function,
    ) -> None:
        steps = objective.critic_steps
        require(steps >= 0, "critic_steps", "be 0 or more", steps, "5 is the paper's; 0 trains no critic.")
        places = processes.share(config.global_batch)
        self.config = config
        self.roles = roles
        self.objective = objective
        self.processes = processes
        self._timer = timer
        self.batches = Batches(source, config.seed, config.global_batch, places, config.micro_batch, config.held_out)
        self._clips = len(places)
        prepare(roles, config, processes)
        self._trained = roles.trainable()
        self._settings = {role: optimizer_of(role, config) for role in self._trained}
        self._parameters = {role: trained_parameters(module) for role, module in self._trained.items()}
        optimizers = {
            role: build_optimizer(self._settings[role], own)
            for role, own in self._parameters.items()
            if own  # a density ratio has no parameters, but a running mean that resumes
        }
        average = start_average(self._trained["student"], config.ema_decay)
        self.state = TrainState(self._trained, optimizers, average)

    def step(self, newest: Path | None = None) -> StepFigures:
        """Train by one step: the critics' updates, the student's update, the student's moving average.

        Args:
            newest: the last checkpoint, for the text of an error.

        Raises:
            DivergedError: a loss or a gradient was not finite.
        """
        step = self.state.step
        figures = StepFigures(detailed=(step + 1) % self.config.meters.log_every == 0)
        # Losses draw from BatchRandom alone. This seed is for networks that draw by themselves (dropout).
        torch.manual_seed(mixed_seed(self.config.seed, self.processes.rank, step))
        critics: list[Phase] = ["critic"] * self.objective.critic_steps
        phases: list[Phase] = [*critics, "student"]
        for number, phase in enumerate(phases):
            self._update(phase, number, step * len(phases) + number, figures, newest)
        with self._timer("student optimizer"):
            update_average(self.state.ema, self._trained["student"], self.config.ema_decay, step)
        self.state.step = step + 1
        return figures

    def _update(self, phase: Phase, number: int, position: int, figures: StepFigures, newest: Path | None) -> None:
        """Descend one phase's loss once.

        Args:
            phase: whose loss.
            number: of the update within its step.
            position: of the update within the run, which says what clips it sees.
            figures: takes in what is logged.
            newest: see `step`.
        """
        config, processes, device = self.config, self.processes, self.processes.device
        step, optimizers = self.state.step, self.state.optimizers
        loss_of = self.objective.student_loss if phase == "student" else self.objective.critic_loss

        def losses(clips: TrainBatch, places: range) -> Mapping[str, Tensor]:
            """The recipe's loss and meters of these clips, with the noise of their places in the global batch."""
            with autocast(config, processes):
                return loss_of(self.roles, clips.to(device), BatchRandom((config.seed, step, number), places))

        # Forward and backward: the gradients of all micro-batches add up.
        micro_batches = self.batches[position]
        meters = UpdateMeters(config.global_batch)
        loss = torch.zeros((), device=device)
        for micro in micro_batches:
            clips = micro.clips.to(device)
            with self._timer(f"{phase} forward"):
                values = losses(clips, micro.places)
            with self._timer(f"{phase} backward"):
                part = values["loss"] * (len(clips) / self._clips)
                part.backward()
                loss += part.detach()
            if figures.detailed:
                meters.add(values, clips.latents)

        # Descend: the roles of this phase alone, each by its own optimizer.
        for role, optimizer in optimizers.items():
            if (role == "student") != (phase == "student"):
                continue
            with self._timer(f"{phase} gradients"):
                norm = self._clip_gradients(role)
                if not math.isfinite(float(processes.sum(loss) + norm)):
                    cause = first_fault(self.roles.modules(), micro_batches, losses)
                    frozen = None if cause in self._trained else cause
                    raise diverged(role, step, float(loss), float(norm), newest, frozen)
            with self._timer(f"{phase} optimizer"):
                set_learning_rate(optimizer, self._settings[role], step)
                optimizer.step()
            figures.numbers[f"{phase}/grad_norm_{role}"] = float(norm)
        with self._timer(f"{phase} optimizer"):
            for optimizer in optimizers.values():  # the student's loss reaches into the discriminator, too
                optimizer.zero_grad(set_to_none=True)
            self._end_update()
        if figures.detailed:
            figures.add(phase, meters, processes)

    def _clip_gradients(self, role: str) -> Tensor:
        """Average a role's gradients over processes and clip them; their norm before."""
        own = list(self._parameters[role].values())
        self.processes.average_gradients(own)
        return whole(nn.utils.clip_grad_norm_(own, self._settings[role].max_grad_norm))

    def _end_update(self) -> None:
        """Let running statistics take in what they saw, once each however many roles share them."""
        parts = {id(part): part for module in self.roles.modules().values() for part in module.modules()}
        for part in parts.values():
            end = getattr(part, "end_of_update", None)
            if end is not None:
                end(self.processes.sum)


def train(
    config: TrainConfig,
    source: ClipSource,
    roles: Roles,
    objective: Objective,
    *,
    output: Path,
    settings: Mapping[str, Any],
    processes: Processes = Processes(),  # noqa: B008 (frozen)
    preview: Callable[[Log | None], Preview] | None = None,
    timer: Timer = record_function,
    progress: Progress = no_progress,
) -> TrainState:
    """Train ``roles`` by ``objective``; go on from the newest checkpoint in ``output`` when there is one.

    Args:
        config, source, roles, objective, processes, timer: see `Trainer`.
        output: the run's folder.
        settings: what the run is known by (`fvgen.distillation.settings.identity`).
        preview: given the main process's log (None elsewhere), makes the `Preview` of held-out clips.
        progress: called after each step.

    Returns: the state after the last step, or after the step in which SIGTERM came.

    Raises:
        InputError: the batch cannot be shared, there are no clips, or the checkpoint is another run's.
        DivergedError: a loss or a gradient was not finite.
        CheckpointError: a checkpoint could not be written.
    """
    trainer = Trainer(config, source, roles, objective, processes, timer)
    state, meters = trainer.state, config.meters
    folder = output / CHECKPOINTS
    newest = processes.from_main(processes.on_main(lambda: checkpoint.latest(folder)))
    if newest is not None:
        checkpoint.load(newest, state, settings)
    log = processes.on_main(lambda: Log(output, meters, state.step, settings))
    show = preview(log) if preview is not None else None

    with _stop_request() as stop:
        while state.step < config.steps:
            figures = trainer.step(newest)
            progress(state.step, config.steps, "train")
            if log is not None and figures.detailed:
                rate = state.optimizers["student"].param_groups[0]["lr"]
                log.write(state.step, figures.numbers | {"lr": rate}, figures.pools)

            finished, stopped = state.step == config.steps, processes.any(stop.is_set())
            due = meters.samples_every > 0 and state.step % meters.samples_every == 0
            held_out = show(state.step, state.ema) if show is not None and (finished or due) else {}
            if log is not None and held_out:
                log.note(state.step, {f"held_out/{name}": value for name, value in held_out.items()})
            error = held_out.get("error")
            best = error is not None and (state.best is None or error < state.best)
            state.best = error if best else state.best
            if best or finished or stopped or state.step % config.checkpoints.every == 0:
                newest = checkpoint.save(folder, state, settings, config.checkpoints.keep, processes, best)
            if stopped:
                break
    trainer.batches.close()
    if log is not None:
        log.close()
    return state


def prepare(roles: Roles, config: TrainConfig, processes: Processes) -> None:
    """Bring networks to the device and to their precision, and split them over processes under FSDP2."""
    frozen = torch.bfloat16 if config.precision == "bf16" else torch.float32
    for module in roles.modules().values():
        module.to(processes.device)
        align_weights(module)  # CPU kernels add in an order that depends on it: a resumed run shall have the same
        for parameter in module.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
        for part in module.modules() if config.gradient_checkpointing else ():
            if getattr(part, "_supports_gradient_checkpointing", False):  # diffusers models say so
                part.enable_gradient_checkpointing()  # type: ignore[operator]
        processes.split(module)


def autocast(config: TrainConfig, processes: Processes) -> AbstractContextManager:
    """The precision that losses are computed in."""
    return torch.autocast(processes.device.type, torch.bfloat16, enabled=config.precision == "bf16")


@contextmanager
def _stop_request() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, instead of ending the process."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there signals can be handled
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
