"""THE loop. A stage is a run, a recipe is an objective, and neither shows in here."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import record_function

from fvgen.checks import complaint, require
from fvgen.distillation import checkpoint
from fvgen.distillation.averaging import start_average, update_average
from fvgen.distillation.batches import Batches, ClipSource
from fvgen.distillation.checkpoint import TrainState, trained_parameters
from fvgen.distillation.faults import CLIPS, first_fault
from fvgen.distillation.meters import Log, UpdateMeters
from fvgen.distillation.optimizers import build_optimizer, set_learning_rate
from fvgen.distillation.parallel import Processes, whole
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.settings import MeterConfig, TrainConfig
from fvgen.types import Progress, TrainBatch, no_progress

CHECKPOINTS = "checkpoints"
Timer = Callable[[str], AbstractContextManager]


class TrainedRoles(Protocol):
    """What the loop knows of roles."""

    def trainable(self) -> dict[str, nn.Module]:
        """By role, the modules with trained parameters; the student's is named ``student``."""

    def modules(self) -> dict[str, nn.Module]:
        """By role, all modules."""


class Trained(Protocol):
    """What the loop knows of an objective."""

    critic_steps: int

    def student_loss(self, roles: Any, batch: TrainBatch, random: BatchRandom) -> Mapping[str, Tensor]:
        """``loss`` and meters."""

    def critic_loss(self, roles: Any, batch: TrainBatch, random: BatchRandom) -> Mapping[str, Tensor]:
        """``loss`` and meters."""


Preview = Callable[[int, Mapping[str, Tensor]], Mapping[str, float]]
"""``preview(step, ema)``: shows the student on held-out clips; figures, ``error`` among them where it was measured."""


class DivergedError(RuntimeError):
    """A loss or a gradient is not finite; no weight was touched by it."""


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
    critic_steps = objective.critic_steps
    require(critic_steps >= 0, "critic_steps", "be 0 or more", critic_steps, "5 is the paper's; 0 trains no critic.")
    places = processes.share(config.global_batch)
    batches = Batches(source, config.seed, config.global_batch, places, config.micro_batch, config.held_out)
    prepare(roles, config, processes)
    trained = roles.trainable()
    settings_of = {role: config.student if role == "student" else config.critic for role in trained}
    parameters = {role: trained_parameters(module) for role, module in trained.items()}
    # A role may have no parameters of its own, but a running mean that resumes.
    optimizers = {role: build_optimizer(settings_of[role], own) for role, own in parameters.items() if own}
    state = TrainState(trained, optimizers, start_average(trained["student"], config.ema_decay))
    folder = output / CHECKPOINTS
    newest = processes.from_main(processes.on_main(lambda: checkpoint.latest(folder)))
    if newest is not None:
        checkpoint.load(newest, state, settings)
    log = processes.on_main(lambda: Log(output, config.meters, state.step, settings))
    show = preview(log) if preview is not None else None
    phases = {"critic": [role for role in optimizers if role != "student"], "student": ["student"]}
    updates = ["critic"] * critic_steps + ["student"]

    with _stop_request() as stop:
        for step in range(state.step, config.steps):
            _seed_everything(config.seed, processes.rank, step)
            figures: dict[str, float] = {}
            pools: dict[str, Tensor] = {}
            log_now = (step + 1) % config.meters.log_every == 0
            for number, phase in enumerate(updates):
                loss_of = objective.student_loss if phase == "student" else objective.critic_loss
                meters = UpdateMeters(config.global_batch)
                loss = torch.zeros((), device=processes.device)
                update = step * len(updates) + number
                said_of = partial(_said, loss_of, roles, (config.seed, step, number), config, processes)
                for micro in batches[update]:
                    batch = micro.clips.to(processes.device)
                    with timer(f"{phase} forward"):
                        said = said_of(batch, micro.places)
                    with timer(f"{phase} backward"):
                        part = said["loss"] * (len(batch) / len(places))
                        part.backward()
                        loss += part.detach()
                    if log_now:
                        meters.add(said, batch.latents)
                for role in phases[phase]:
                    own = list(parameters[role].values())
                    with timer(f"{phase} gradients"):
                        processes.average_gradients(own)
                        norm = whole(nn.utils.clip_grad_norm_(own, settings_of[role].max_grad_norm))
                        if not math.isfinite(float(processes.sum(loss) + norm)):
                            fault = first_fault(roles.modules(), batches[update], said_of)
                            cause = None if fault in trained else fault
                            raise DivergedError(_diverged(role, step, float(loss), float(norm), newest, cause))
                    with timer(f"{phase} optimizer"):
                        set_learning_rate(optimizers[role], settings_of[role], step)
                        optimizers[role].step()
                    figures[f"{phase}/grad_norm_{role}"] = float(norm)
                with timer(f"{phase} optimizer"):
                    for optimizer in optimizers.values():  # the student's loss reaches into the discriminator, too
                        optimizer.zero_grad(set_to_none=True)
                    _end_update(roles, processes)
                if log_now:
                    of_phase, pooled = meters.totals(processes)
                    figures |= {f"{phase}/{name}": value for name, value in of_phase.items()}
                    pools |= {f"{phase}/{name}": values for name, values in pooled.items()}
            with timer("student optimizer"):
                update_average(state.ema, trained["student"], config.ema_decay, step)
            state.step = step + 1
            progress(state.step, config.steps, "train")

            if log_now and log is not None:
                log.write(state.step, figures | {"lr": optimizers["student"].param_groups[0]["lr"]}, pools)
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


def autocast(config: TrainConfig, processes: Processes) -> AbstractContextManager:
    """What losses are computed under."""
    return torch.autocast(processes.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _said(
    loss_of: Callable, roles: Any, key: tuple[int, ...], config: TrainConfig, processes: Processes,
    batch: TrainBatch, places: range,
) -> Mapping[str, Tensor]:  # fmt: skip
    """Loss and meters of clips at these places of an update, whose noise has this key."""
    with autocast(config, processes):
        return loss_of(roles, batch.to(processes.device), BatchRandom(key, places))


def _due(step: int, config: MeterConfig) -> bool:
    return config.samples_every > 0 and step % config.samples_every == 0


def _seed_everything(*key: int) -> None:
    # Losses draw from BatchRandom alone; a network that draws by itself (dropout) shall resume exactly, too.
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))


def _end_update(roles: TrainedRoles, processes: Processes) -> None:
    """Let running statistics take in what they saw, once each however many roles share them."""
    parts = {id(part): part for module in roles.modules().values() for part in module.modules()}
    for part in parts.values():
        end = getattr(part, "end_of_update", None)
        if end is not None:
            end(processes.sum)


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
