"""A loss that is not finite: where NaN or infinity came from, and the error that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fvgen.checks import complaint
from fvgen.clip import TrainBatch
from fvgen.distillation.batches import MicroBatch

CLIPS = "clips"


class DivergedError(RuntimeError):
    """A loss or a gradient is not finite; no weight was touched by it."""


def first_fault(
    modules: Mapping[str, nn.Module], micro_batches: Iterable[MicroBatch], losses: Callable[[TrainBatch, range], Any]
) -> str | None:
    """Compute the losses of an update once more, and find the first to make them not finite.

    Args:
        modules: networks by role.
        micro_batches: clips of the update.
        losses: computes the losses of clips at their places, with the same noise as before.

    Returns: `CLIPS` where these hold NaN or infinite values. Else the role that first gave such values for finite
        inputs, and None where no network did.
    """
    spoilt = False
    with torch.no_grad(), _calls_watched(modules) as faulty:
        for micro in micro_batches:  # all of them: under FSDP2 other processes wait for every call
            spoilt |= not finite(micro.clips)
            losses(micro.clips, micro.places)
    return CLIPS if spoilt else next(iter(faulty), None)


@contextmanager
def _calls_watched(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Within: the list of modules that made non-finite values from finite ones, in the order of their calls."""
    faulty: list[str] = []
    hooks = []
    for name, module in modules.items():

        def look(_: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
            if finite((args, kwargs)) and not finite(output):
                faulty.append(name)

        hooks.append(module.register_forward_hook(look, with_kwargs=True))
    try:
        yield faulty
    finally:
        for hook in hooks:
            hook.remove()


def finite(values: Any) -> bool:
    """Whether no tensor in nested values, dataclasses included, holds a NaN or an infinity."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(values))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
        return
    if isinstance(values, Mapping):
        values = list(values.values())
    elif hasattr(values, "__dataclass_fields__"):
        values = list(vars(values).values())
    if isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def diverged(
    role: str, step: int, loss: float, norm: float, newest: Path | None, cause: str | None = None
) -> DivergedError:
    """The error of a role whose loss or gradient is not finite, with what to do about it.

    Args:
        role: whose update it was.
        step: of the run, counted from 0.
        loss: of the update.
        norm: of the role's gradients.
        newest: the last checkpoint.
        cause: `CLIPS` or a frozen network, where one of them is the cause: then no learning rate helps.
    """
    found = f"loss {loss:.4g} with gradient norm {norm:.4g} at step {step + 1}"
    last = f"The last good checkpoint is {newest}" if newest else "There is no checkpoint yet"
    other = "a lower learning rate or --precision fp32"
    if cause == CLIPS:
        next_step = f"The clips hold NaN or infinite values: make them again with fvgen clips. {last}."
    elif cause is not None:
        name = cause.replace("_", " ")
        next_step = (
            f"The {name} made them out of finite values, and it is frozen, so that no learning rate helps: convert or "
            f"download it again (fvgen parity checks a converted ViewCrafter), look at what it draws at the "
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
    return DivergedError(complaint(f"the {role}'s loss and gradient", "be finite", found, next_step))
