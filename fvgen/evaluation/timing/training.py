"""How long a training step takes, phase by phase, and what it holds in memory: with the loop that trains.

Networks and clips are random: neither speed nor memory depends on them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from fvgen.clip import Conditions, TrainBatch
from fvgen.devices import free_memory, peak_memory, reset_peak_memory, synchronize
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.activations import ClipLatents
from fvgen.distillation.memory_plan import plan_memory
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.parallel import Processes
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import Backbone, MeterConfig, TrainConfig
from fvgen.distillation.start import build_roles
from fvgen.distillation.trainer import train
from fvgen.evaluation.timing.clips import randomised
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.unet_3d import VideoUNet

STAGES: dict[str, Objective] = {"stage1": FVGenStage1(), "stage2": FVGenStage2()}
"""As the presets have them, the teacher's guidance included."""
TEXT_TOKENS, IMAGE_TOKENS = 77, 16


class _EnoughError(Exception):
    """Ends the loop before it saves: there is nothing to keep."""


@dataclass(frozen=True)
class TrainingTrial:
    """What is timed."""

    stage: str
    """Name in `STAGES`."""
    backbone: Backbone
    device: torch.device
    network: dict[str, Any] = field(default_factory=dict)
    """Settings of `VideoUNet`; none for ViewCrafter's."""
    frames: int = 16
    height: int = 40
    """Height of the latents."""
    width: int = 64
    precision: Any = "bf16"
    steps: int = 2
    """Number of timed steps, after a first one to warm up."""
    adapter_rank: int = 64


class RandomClips:
    """A data set of noise."""

    meta: dict[str, Any]
    config_hash = "noise"

    def __init__(self, shape: Sequence[int], condition_channels: int, tokens: int, context_dim: int) -> None:
        self.meta = {}
        self._shape, self._channels, self._tokens = tuple(shape), condition_channels, (tokens, context_dim)

    def __len__(self) -> int:
        return 64

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        """Clips [B, F, C, h, w] of these numbers."""
        frames, channels, height, width = self._shape
        draw = torch.Generator().manual_seed(int(keys[0]))
        count = len(keys)

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(count, *shape, generator=draw)

        known = noise(frames, self._channels, height, width)
        conditions = Conditions(known, noise(*self._tokens), torch.full((count,), 10), noise(*self._tokens))
        return TrainBatch(noise(frames, channels, height, width), conditions)


class Stopwatch:
    """Seconds by name; what is timed inside of something else is taken out of it and carries its first word."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._open: list[tuple[str, float]] = []
        """Open names, and the seconds inside that are counted elsewhere."""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        name = f"{self._open[-1][0].split()[0]} {name}" if self._open else name
        synchronize(self._device)
        begin = perf_counter()
        self._open.append((name, 0.0))
        try:
            yield
        finally:
            synchronize(self._device)
            whole = perf_counter() - begin
            _, inside = self._open.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + whole - inside
            if self._open:
                around, elsewhere = self._open[-1]
                self._open[-1] = (around, elsewhere + whole)

    def watch(self, roles: Roles) -> None:
        """Time every call of a role's network, apart from the phase that calls it."""
        for name in ("student", "teacher", "fake_score", "discriminator"):
            module = getattr(roles, name)
            if module is None:
                continue
            running: list[Any] = []

            def enter(*_: Any, name: str = name, running: list[Any] = running) -> None:
                running.append(self(f"in {name}"))
                running[-1].__enter__()

            def leave(*_: Any, running: list[Any] = running) -> None:
                running.pop().__exit__(None, None, None)

            module.register_forward_pre_hook(enter)
            module.register_forward_hook(leave)


def time_training(trial: TrainingTrial) -> dict[str, Any]:
    """Seconds of a step with one clip, by phase, and GPU memory at its worst beside the plan's estimate."""
    config = TrainConfig(
        steps=trial.steps + 2,
        global_batch=1,
        precision=trial.precision,
        meters=MeterConfig(log_every=10**9, samples_every=0, tensorboard=False),
    )
    objective = STAGES[trial.stage]
    roles, teacher = _random_roles(objective, trial)
    tokens = TEXT_TOKENS + IMAGE_TOKENS * trial.frames
    channels, context = teacher.config.out_channels, teacher.config.context_dim
    shape = ClipLatents(1, trial.frames, teacher.config.in_channels, trial.height, trial.width, tokens)
    plan = plan_memory(roles, config, shape)
    source = RandomClips(
        (trial.frames, channels, trial.height, trial.width), shape.channels - channels, tokens, context
    )
    watch, begin = Stopwatch(trial.device), 0.0

    def after(done: int, total: int, what: str) -> None:
        nonlocal begin
        synchronize(trial.device)
        if done == 1:  # warm
            watch.seconds.clear()
            reset_peak_memory(trial.device)
            begin = perf_counter()
        elif done == trial.steps + 1:
            raise _EnoughError

    watch.watch(roles)
    with tempfile.TemporaryDirectory() as folder:
        try:
            train(
                config,
                source,
                roles,
                objective,
                output=Path(folder),
                settings={},
                processes=Processes(device=trial.device),
                timer=watch,
                progress=after,
            )
        except _EnoughError:
            step = (perf_counter() - begin) / trial.steps
    peak = peak_memory(trial.device)
    return {
        "stage": trial.stage,
        "backbone": trial.backbone,
        "frames": trial.frames,
        "latents": (trial.height, trial.width),
        "critic_steps": objective.critic_steps,
        "step_s": step,
        "phases_s": {name: seconds / trial.steps for name, seconds in sorted(watch.seconds.items())},
        "peak_gib": None if peak is None else peak / 2**30,
        "planned_gib": plan.peak / 2**30,
    }


def _random_roles(objective: Objective, trial: TrainingTrial) -> tuple[Roles, VideoUNet]:
    torch.manual_seed(0)
    with trial.device:
        teacher: Any = randomised(VideoUNet(**trial.network), trial.device, torch.float32)
        width = teacher.config.model_channels * teacher.config.channel_mult[-1]
        discriminator = ClipDiscriminator(
            (width,), hidden_channels=min(256, width), norm_num_groups=min(32, width // 4)
        )
    roles = build_roles(
        objective,
        teacher,
        NoiseSchedule(base_scale=0.7),
        backbone=trial.backbone,
        discriminator=discriminator if "discriminator" in objective.needs else None,
        adapter_rank=trial.adapter_rank,
    )
    return roles, teacher


def measure_training(trials: Iterable[TrainingTrial]) -> Iterator[dict[str, Any]]:
    """A row for each trial; a failure is a row with ``error``, and the others are measured."""
    for trial in trials:
        try:
            row = time_training(trial)
        except Exception as error:  # whatever the allocator or a kernel raises
            text = f"{type(error).__name__}: {error}"[:500]
            row = {"stage": trial.stage, "backbone": trial.backbone, "error": text}
        free_memory()
        yield row


def described(row: dict[str, Any]) -> str:
    """Lines about a row."""
    name = f"training {row['stage']} {row['backbone']:6}"
    if "error" in row:
        return f"{name} FAILED: {row['error']}"
    memory = "" if row["peak_gib"] is None else f", peak {row['peak_gib']:.2f} GiB"
    phases = "  ".join(f"{phase} {seconds:.3f}" for phase, seconds in row["phases_s"].items())
    return f"{name} {row['step_s']:.3f} s a step{memory} (planned {row['planned_gib']:.2f} GiB)\n  {phases}"
