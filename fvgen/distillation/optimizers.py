"""AdamW in the kinds that libraries give, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fvgen.checks import InputError, complaint, require
from fvgen.distillation.settings import OptimizerConfig, OptimizerKind, TrainConfig


def build_optimizer(config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser of all these parameters.

    Raises:
        InputError: for 8-bit moments where bitsandbytes is not installed.
    """
    return _KINDS[config.kind](list(parameters.values()), config)


def check_optimizers(config: TrainConfig, sharded: bool) -> None:
    """Refuse optimisers that cannot work here before a run has written anything.

    Raises:
        InputError: 8-bit moments where bitsandbytes is not installed, or of networks that FSDP2 splits.
    """
    for role, own in (("student", config.student), ("critic", config.critic)):
        require(
            own.kind != "adamw8bit" or not sharded,
            f"the {role}'s optimiser",
            "be adamw under FSDP2, whose pieces bitsandbytes does not take",
            own.kind,
            f"Give --{role}.kind adamw, or start with scripts/accelerate/ddp.yaml.",
        )
        build_optimizer(own, {"any": nn.Parameter(torch.zeros(1))})


def _adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    return torch.optim.AdamW(parameters, fused=True, **settings)  # one kernel: 4 times as fast as foreach on a CPU


def _adamw8bit(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        next_step = "Install it with: pip install bitsandbytes; or use the optimiser adamw."
        raise InputError(complaint("adamw8bit", "have bitsandbytes installed", error, next_step)) from error
    return AdamW8bit(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)


_KINDS: Mapping[OptimizerKind, Callable[[list[nn.Parameter], OptimizerConfig], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
}


def learning_rate(config: OptimizerConfig, step: int) -> float:
    """At a step counted from 0: a linear rise, then constant or along a cosine to 0."""
    lr = config.lr
    if step < config.warmup_steps:
        return lr * (step + 1) / config.warmup_steps
    if config.decay_steps > 0:
        done = (step - config.warmup_steps) / max(config.decay_steps - config.warmup_steps, 1)
        lr *= 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return lr


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int) -> None:
    """Give the optimiser its learning rate of a step counted from 0."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
