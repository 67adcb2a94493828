"""The smallest run that has all that a real one has: a student, a critic, a running mean, noise of every kind.

Run as a script it trains, as a user's command would, so that tests can kill it:

    python stand_in.py OUTPUT STEPS [--every N] [--global-batch N] [--micro-batch N] [--seed N] [--pause SECONDS]
                      [--files-up-to BYTES]
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from full_disk import files_up_to
from torch import Tensor, nn

from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.batches import ClipSource
from fvgen.distillation.checkpoint import TrainState
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.parallel import Processes
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import CheckpointConfig, MeterConfig, OptimizerConfig, TrainConfig, identity
from fvgen.distillation.trainer import train

CLIPS, FRAMES, CHANNELS, SIDE = 7, 3, 2, 4


class MemoryClips(ClipSource):
    """Clips made up on the spot."""

    config_hash = "stand-in"

    def __init__(self, clips: int = CLIPS, channels: int = CHANNELS) -> None:
        self.meta: dict[str, Any] = {"latent_channels": channels, "frames": FRAMES, "height": SIDE, "width": SIDE}
        generator = torch.Generator().manual_seed(5)
        self._latents = torch.randn(clips, FRAMES, channels, SIDE, SIDE, generator=generator)

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        z = self._latents[list(keys)]
        tokens = torch.zeros(len(z), 1, 4)
        return TrainBatch(z, Conditions(0.5 * z, tokens, torch.full((len(z),), 10)))


class Block(nn.Module):
    """What FSDP2 keeps whole."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Conv3d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


class Network(nn.Module):
    """[B, F, inputs, h, w] -> [B, F, outputs, h, w]."""

    _no_split_modules = ("Block",)

    def __init__(self, inputs: int, outputs: int, width: int = 6) -> None:
        super().__init__()
        self.first, self.last = Block(inputs, width), Block(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x.transpose(1, 2)))).transpose(1, 2).contiguous()


class MovesLast(Network):
    """A student whose layers along time come last; an optimiser with another rate for the 2D layers has them first."""

    def __init__(self) -> None:
        super().__init__(2 * CHANNELS, CHANNELS)
        self.temporal_conv = self._modules.pop("last")

    def forward(self, x: Tensor) -> Tensor:
        return self.temporal_conv(torch.tanh(self.first(x.transpose(1, 2)))).transpose(1, 2).contiguous()


class Critic(nn.Module):
    """One logit a clip, and a running mean of what it says."""

    running_mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(CHANNELS, 1)
        self.register_buffer("running_mean", torch.zeros(()))
        self._seen: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        logits = self.head(z.mean((1, 3, 4)))[:, 0]
        self._seen.append(logits.detach())
        return logits

    def end_of_update(self, reduce: Callable[[Tensor], Tensor]) -> None:
        seen = torch.cat(self._seen)
        total, count = reduce(torch.stack([seen.sum(), torch.tensor(float(len(seen)))]))
        self.running_mean.lerp_(total / count, 0.1)
        self._seen.clear()


def stand_in_roles(width: int = 6) -> Roles:
    """A student, and a critic in the discriminator's place."""
    torch.manual_seed(0)
    student = Network(2 * CHANNELS, CHANNELS, width)
    return Roles(NoiseSchedule(), student, discriminator=Critic())


@dataclass(frozen=True)
class StandInObjective(Objective):
    """A GAN of sorts."""

    critic_steps: int = 2
    pause: float = 0.0
    """Seconds that every student update takes longer."""
    needs = trains = ("student", "discriminator")

    def _generate(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> Tensor:
        level = 0.1 * (1 + random.shared_randint(0, 4)) * random.rand()
        noisy = batch.latents + level[:, None, None, None, None] * random.randn_like(batch.latents)
        return noisy + roles.student(torch.cat([noisy, batch.conditions.render_latents], dim=2))

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        time.sleep(self.pause)
        z = self._generate(roles, batch, random)
        logits = roles.discriminator(z)
        loss = nn.functional.softplus(-logits).mean() + (z - batch.latents).square().mean()
        loss = loss + 0.01 * roles.discriminator.running_mean * z.mean()
        return {"loss": loss, "error": (z - batch.latents).square().mean(), "generated": z, "h": logits.exp()}

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        with torch.no_grad():
            z = self._generate(roles, batch, random)
        real, fake = roles.discriminator(batch.latents), roles.discriminator(z)
        loss = (nn.functional.softplus(-real) + nn.functional.softplus(fake)).mean()
        return {"loss": loss, "logit_real": real, "logit_fake": fake}


@dataclass(frozen=True)
class Poisoned(StandInObjective):
    """Its critic's loss is NaN as soon as the running mean has moved."""

    def critic_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        values = super().critic_loss(roles, batch, random)
        moved = bool(roles.discriminator.running_mean != 0)
        return {**values, "loss": values["loss"] * float("nan")} if moved else values


@dataclass(frozen=True)
class Taught(StandInObjective):
    """The student is pulled to what a frozen teacher makes of its clips."""

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        values = super().student_loss(roles, batch, random)
        target = roles.teacher(torch.cat([values["generated"].detach(), batch.conditions.render_latents], dim=2))
        return {**values, "loss": values["loss"] + (values["generated"] - target).square().mean()}


def taught_roles() -> Roles:
    """The stand-in's roles, and the untrained student as a frozen teacher."""
    roles = stand_in_roles()
    return replace(roles, teacher=copy.deepcopy(roles.student).requires_grad_(False))


def stand_in_config(steps: int, every: int = 100, **changes: Any) -> TrainConfig:
    fast = OptimizerConfig(lr=1e-2, warmup_steps=2)
    defaults: dict[str, Any] = {
        "steps": steps,
        "global_batch": 4,
        "micro_batch": 2,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "ema_decay": 0.9,
        "student": fast,
        "critic": fast,
        "meters": MeterConfig(log_every=1, samples_every=0, tensorboard=False),
        "checkpoints": CheckpointConfig(every=every),
    }
    return TrainConfig(**{**defaults, **changes})


def run(config: TrainConfig, output: Path, objective: StandInObjective | None = None, **options: Any) -> TrainState:
    """Train the stand-in."""
    objective = objective or StandInObjective()
    settings = identity(config, objective={"critic_steps": objective.critic_steps}, data=MemoryClips.config_hash)
    source = options.pop("source") if "source" in options else MemoryClips()
    roles = options.pop("roles") if "roles" in options else stand_in_roles()
    return train(config, source, roles, objective, output=output, settings=settings, **options)


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("steps", type=int)
    for name, default in (("every", 1), ("global-batch", 4), ("micro-batch", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--files-up-to", type=int)  # not of the whole process: importing torch 2.9 writes a file
    asked = parser.parse_args()
    torch.set_num_threads(1)
    processes = Processes.launched()
    print(f"process {processes.rank + 1} of {processes.world}, sharded: {processes.sharded}", flush=True)
    config = stand_in_config(
        asked.steps, asked.every, global_batch=asked.global_batch, micro_batch=asked.micro_batch, seed=asked.seed
    )
    with nullcontext() if asked.files_up_to is None else files_up_to(asked.files_up_to):
        run(config, asked.output, StandInObjective(pause=asked.pause), processes=processes)
    processes.leave()
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    print(f"connected: {any('gloo' in name for name in threads)}", flush=True)


if __name__ == "__main__":
    main()
