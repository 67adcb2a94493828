"""AdamW in the kinds that libraries give, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from fvgen.checks import InputError, complaint, require
from fvgen.distillation.settings import OptimizerConfig, OptimizerKind, TrainConfig

MOTION_LAYERS = ("temporal_conv", "temporal_attention", "attention_in")
"""Parts of a `VideoUNet` that look along time, by their names; all others are its 2D layers."""
Groups = list[dict[str, Any]]


def build_optimizer(config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser of all these parameters, in a group for each ``scale`` of its learning rate.

    Raises:
        InputError: for 8-bit moments where bitsandbytes is not installed.
    """
    return _KINDS[config.kind](_groups(config, parameters), config)


def _groups(config: OptimizerConfig, parameters: Mapping[str, nn.Parameter]) -> Groups:
    """Motion layers and 2D layers apart where they learn at rates of their own; else all together."""
    if config.spatial_lr_scale == 1:
        return [{"params": list(parameters.values()), "scale": 1.0}]
    moves = {name: any(part in name.split(".") for part in MOTION_LAYERS) for name in parameters}
    split = ((True, 1.0), (False, config.spatial_lr_scale))
    groups = [
        {"params": [p for name, p in parameters.items() if moves[name] == motion], "scale": scale}
        for motion, scale in split
    ]
    return [group for group in groups if group["params"]]


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


def _adamw(groups: Groups, config: OptimizerConfig) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    return torch.optim.AdamW(groups, fused=True, **settings)  # one kernel: 4 times as fast as foreach on a CPU


def _adamw8bit(groups: Groups, config: OptimizerConfig) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        next_step = "Install it with: pip install bitsandbytes; or use the optimiser adamw."
        raise InputError(complaint("adamw8bit", "have bitsandbytes installed", error, next_step)) from error
    return AdamW8bit(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)


_KINDS: Mapping[OptimizerKind, Callable[[Groups, OptimizerConfig], torch.optim.Optimizer]] = {
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
        group["lr"] = group["scale"] * learning_rate(config, step)
