"""THE loop. A stage is a run, a recipe is an objective, and neither shows in here."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from fvgen.checks import require
from fvgen.distillation import checkpoint
from fvgen.distillation.averaging import start_average, update_average
from fvgen.distillation.batches import Batches, ClipSource
from fvgen.distillation.checkpoint import TrainState
from fvgen.distillation.meters import Log
from fvgen.distillation.parallel import Processes
from fvgen.distillation.settings import MeterConfig, TrainConfig
from fvgen.distillation.updates import StepFigures, Timer, Trained, TrainedRoles, Updates
from fvgen.types import Progress, no_progress

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, inside its own."""
Preview = Callable[[int, Mapping[str, Tensor]], Mapping[str, float]]
"""``preview(step, ema)``: shows the student on held-out clips; figures, ``error`` among them where it was measured."""


def train(
    config: TrainConfig,
    source: ClipSource,
    roles: TrainedRoles,
    objective: Trained,
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
        config: how.
        source: clips.
        roles: networks, built and frozen; moved to the processes' device here.
        objective: the recipe: losses of the critic's and of the student's updates.
        output: the run's folder.
        settings: what the run is known by (`fvgen.distillation.settings.identity`).
        processes: the run's processes.
        preview: given the main process's log (None elsewhere), makes what shows the student on held-out clips.
        timer: entered around each phase with its name; the default labels them for torch's profiler.
        progress: told after each step.

    Returns: the state after the last step, or after the step in which SIGTERM came.

    Raises:
        InputError: the batch cannot be shared, no clips, or the checkpoint is another run's.
        DivergedError: a loss or a gradient was not finite.
        CheckpointError: a checkpoint could not be written.
    """
    steps = objective.critic_steps
    require(steps >= 0, "critic_steps", "be 0 or more", steps, "5 is the paper's; 0 trains no critic.")
    places = processes.share(config.global_batch)
    batches = Batches(source, config.seed, config.global_batch, places, config.micro_batch, config.held_out)
    prepare(roles, config, processes)
    updates = Updates(config, roles, objective, batches, places, processes, timer)
    trained = roles.trainable()
    state = TrainState(trained, updates.optimizers, start_average(trained["student"], config.ema_decay))
    folder = output / CHECKPOINTS
    newest = processes.from_main(processes.on_main(lambda: checkpoint.latest(folder)))
    if newest is not None:
        checkpoint.load(newest, state, settings)
    log = processes.on_main(lambda: Log(output, config.meters, state.step, settings))
    show = preview(log) if preview is not None else None

    with _stop_request() as stop:
        for step in range(state.step, config.steps):
            figures = StepFigures(wanted=(step + 1) % config.meters.log_every == 0)
            updates.run(step, figures, newest)
            with timer("student optimizer"):
                update_average(state.ema, trained["student"], config.ema_decay, step)
            state.step = step + 1
            progress(state.step, config.steps, "train")

            if figures.wanted and log is not None:
                learning_rate = state.optimizers["student"].param_groups[0]["lr"]
                log.write(state.step, figures.numbers | {"lr": learning_rate}, figures.pools)
            finished = state.step == config.steps
            stopped = processes.any(stop.is_set())
            held_out = show(state.step, state.ema) if show and (finished or _due(state.step, config.meters)) else {}
            if held_out and log is not None:
                log.note(state.step, {f"held_out/{name}": value for name, value in held_out.items()})
            error = held_out.get("error")
            best = error is not None and (state.best is None or error < state.best)
            state.best = error if best else state.best
            if best or finished or stopped or state.step % config.checkpoints.every == 0:
                newest = checkpoint.save(folder, state, settings, config.checkpoints.keep, processes, best)
            if stopped:
                break
    batches.close()
    if log is not None:
        log.close()
    return state


def prepare(roles: TrainedRoles, config: TrainConfig, processes: Processes) -> None:
    """Bring networks to the device and to their precision, and split them over processes under FSDP2."""
    frozen = torch.bfloat16 if config.precision == "bf16" else torch.float32
    for module in roles.modules().values():
        module.to(processes.device)
        for parameter in module.parameters():
            parameter.data = parameter.data.to(torch.float32 if parameter.requires_grad else frozen)
        for part in module.modules() if config.gradient_checkpointing else ():
            if getattr(part, "_supports_gradient_checkpointing", False):  # diffusers models say so
                part.enable_gradient_checkpointing()  # type: ignore[operator]
        processes.split(module)


def _due(step: int, config: MeterConfig) -> bool:
    return config.samples_every > 0 and step % config.samples_every == 0


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
