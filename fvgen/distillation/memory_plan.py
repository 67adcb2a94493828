"""What a run will hold in memory, printed before it starts; a run that cannot fit does not start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.devices import available_memory
from fvgen.distillation.activations import Activations, ClipLatents, count_activations, count_image_activations
from fvgen.distillation.adapters import AdaptedNetwork
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import OptimizerConfig, TrainConfig, optimizer_of

_MOMENTS = {"adamw": 8.0, "adamw8bit": 2.0}
"""Bytes per trained parameter of an optimiser's two moments."""
_GIB = 2**30
_RESERVE = 0.06
"""Share of the rest that allocators lose to gaps between blocks, and kernels to their workspaces."""
_ADAPTED = 1.5
"""What is inside of a block with adapters, as a multiple of the same without: peft casts every input to the adapters'
float32. From the peaks that an H100 showed (benchmarks/results/gpu_h100.json)."""


@dataclass(frozen=True)
class RoleMemory:
    """Bytes that one role adds in one process; what roles share is counted with the first."""

    parameters: int
    """Number of parameters, not bytes."""
    trained: int
    """Number of parameters that are trained."""
    weights: int
    gradients: int
    optimizer: int
    average: int


@dataclass(frozen=True)
class MemoryPlan:
    """What one process holds."""

    roles: Mapping[str, RoleMemory]
    phases: Mapping[str, int]
    """Bytes by phase: gradients, activations and copies that exist only during it."""

    @property
    def resident(self) -> int:
        """Bytes that are held all the time."""
        return sum(r.weights + r.optimizer + r.average for r in self.roles.values())

    @property
    def peak(self) -> int:
        """Bytes at the worst moment, allocator's losses included."""
        return int((self.resident + max(self.phases.values())) * (1 + _RESERVE))

    def table(self) -> str:
        """For a person, in GiB."""
        lines = [f"{'role':<16}{'parameters':>15}{'trained':>15}  weights   grads   optim     EMA   (GiB)"]
        for name, r in self.roles.items():
            sizes = "".join(f"{size / _GIB:8.2f}" for size in (r.weights, r.gradients, r.optimizer, r.average))
            lines.append(f"{name:<16}{r.parameters:>15,}{r.trained:>15,} {sizes}")
        lines.append(f"held all the time {self.resident / _GIB:.2f} GiB")
        for name, size in self.phases.items():
            lines.append(f"{name} update: gradients, activations and autocast copies {size / _GIB:.2f} GiB more")
        lines.append(f"peak {self.peak / _GIB:.2f} GiB (estimate, with {_RESERVE:.0%} for the allocator)")
        return "\n".join(lines)

    def require_fit(self, available: int, where: str) -> None:
        """Raise `InputError` with the numbers when the peak is over ``available`` bytes."""
        require(
            self.peak <= available,
            "the memory plan",
            f"fit in the {available / _GIB:.2f} GiB of {where}",
            f"{self.peak / _GIB:.2f} GiB",
            "Use --backbone shared, --gradient-checkpointing, a smaller --micro-batch, an 8-bit optimiser, or FSDP2 "
            f"(scripts/accelerate/fsdp2.yaml).\n{self.table()}",
        )


def clip_shape(clip: TrainBatch, micro_batch: int) -> ClipLatents:
    """Shape of a micro-batch of clips like the given ones."""
    frames, channels, height, width = clip.latents.shape[1:]
    channels += clip.conditions.render_latents.shape[2]
    return ClipLatents(micro_batch, frames, channels, height, width, clip.conditions.tokens.shape[1])


def memory_for(roles: Roles, device: torch.device) -> int:
    """Bytes that a run may take on a device, those that its networks hold there already included."""
    held = {id(p): p for module in roles.modules().values() for p in module.parameters() if p.device == device}
    return available_memory(device) + sum(p.numel() * p.element_size() for p in held.values())


def plan_memory(
    roles: Roles, config: TrainConfig, shape: ClipLatents, split: int = 1, matching: FrameMatching | None = None
) -> MemoryPlan:
    """Count what ``roles`` will hold; nothing is allocated, so they may be on the meta device.

    Args:
        roles: built and frozen.
        config: of the run.
        shape: of a micro-batch.
        split: processes that each network is split over (FSDP2).
        matching: how an image model is shown the clips' frames; None without one.
    """
    seen: set[int] = set()
    memory = {}
    trained = roles.trainable()
    # What a role trains comes first: a shared backbone holds the adapters of all.
    for name, module in (trained | {other: m for other, m in roles.modules().items() if other not in trained}).items():
        own = _role(module, seen, config, optimizer_of(name, config), name == "student", split)
        if own.parameters:
            memory[name] = own
    return MemoryPlan(memory, _phases(roles, memory, config, shape, matching))


def _role(
    module: nn.Module, seen: set[int], config: TrainConfig, optimizer: OptimizerConfig, student: bool, split: int
) -> RoleMemory:
    new = [p for p in module.parameters() if id(p) not in seen]
    seen.update(id(p) for p in new)
    total = sum(p.numel() for p in new)
    trained = sum(p.numel() for p in new if p.requires_grad)
    frozen_size = 2 if config.precision == "bf16" else 4
    return RoleMemory(
        parameters=total,
        trained=trained,
        weights=(4 * trained + frozen_size * (total - trained)) // split,
        gradients=4 * trained // split,
        optimizer=int(_MOMENTS[optimizer.kind] * trained) // split,
        average=4 * trained // split if student and config.ema_decay > 0 else 0,
    )


def _phases(
    roles: Roles,
    memory: Mapping[str, RoleMemory],
    config: TrainConfig,
    shape: ClipLatents,
    matching: FrameMatching | None,
) -> dict[str, int]:
    """The worst moment of each update.

    The student's update keeps its own pass and, through a discriminator, half a pass more; the critics' likewise. What
    is inside of a block exists for one block at a time. Activations go while gradients come: when the decoder is
    through, half of the one is left and most of the other there. Only where gradients are accumulated over several
    micro-batches do they lie beside all activations.
    """
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    trained = roles.trainable()
    student = network_in(roles.student)
    whole = count_activations(student, shape, dtype)
    encoder = count_activations(student, shape, dtype, middle_only=True) if "discriminator" in roles.modules() else None
    image = None
    if matching is not None:
        tokens = min(matching.text_tokens, shape.tokens)
        image = count_image_activations(roles.frame_teacher, shape, matching.frames, tokens, dtype)
    inside = whole.working * (_ADAPTED if isinstance(roles.student, AdaptedNetwork) else 1)
    working = max(int(inside), image.working if image else 0)

    def kept(counted: Activations | None) -> int:
        if counted is None:
            return 0
        return counted.checkpointed - counted.working if config.gradient_checkpointing else counted.kept

    def worst(names: list[str], activations: int) -> int:
        trained_here = [memory[name] for name in names if name in memory]
        gradients = sum(role.gradients for role in trained_here)
        copies = sum(2 * role.trained for role in trained_here) if dtype == torch.bfloat16 else 0
        accumulated = config.global_batch > config.micro_batch
        together = activations + gradients if accumulated else max(activations, gradients + activations // 2)
        return working + copies + together

    phases = {"student": worst(["student"], kept(whole) + kept(encoder))}
    critics = [name for name in trained if name != "student"]
    if critics:
        scored = kept(whole) if "fake_score" in trained else 0
        discriminated = 2 * kept(encoder) if "discriminator" in trained else 0  # real and generated clips
        phases["critic"] = worst(critics, scored + discriminated + kept(image))
    return phases


def network_in(module: nn.Module) -> Any:
    """The video network inside a role's module."""
    return next(part for part in module.modules() if getattr(part, "_no_split_modules", None))
