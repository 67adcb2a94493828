"""What was the first to be not finite when a loss is not: the clips, or a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fvgen.distillation.batches import MicroBatch
from fvgen.types import TrainBatch

CLIPS = "clips"


def first_fault(
    modules: Mapping[str, nn.Module], micros: Iterable[MicroBatch], loss_of: Callable[[TrainBatch, range], Any]
) -> str | None:
    """Compute the loss of an update once more, and look who made it not finite.

    Args:
        modules: by role.
        micros: of the update.
        loss_of: of clips and their places, with the noise that it had.

    Returns: `CLIPS` where these hold NaN or infinite values; else the role that first gave such values although it was
        given none; None where no network did.
    """
    spoilt = False
    with torch.no_grad(), _listening(modules) as faulty:
        for micro in micros:  # all of them: under FSDP2 other processes wait for every call
            spoilt |= not finite(micro.clips)
            loss_of(micro.clips, micro.places)
    return CLIPS if spoilt else next(iter(faulty), None)


@contextmanager
def _listening(modules: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Within: names of the modules that make non-finite values from finite ones, call by call."""
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
