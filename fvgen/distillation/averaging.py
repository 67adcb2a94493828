"""The exponential moving average of a student's weights, which is what is shown and exported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fvgen.distillation.checkpoint import trained_parameters


def start_average(student: nn.Module, decay: float) -> dict[str, Tensor]:
    """A copy of the trained parameters by name; nothing when ``decay`` is 0."""
    if decay == 0:
        return {}
    return {name: p.detach().clone() for name, p in trained_parameters(student).items()}


@torch.no_grad()
def update_average(ema: Mapping[str, Tensor], student: nn.Module, decay: float, step: int) -> None:
    """Move the average towards the parameters after ``step`` (counted from 0), in place.

    Early on the decay is (1 + step) / (10 + step), so that the untrained start is soon forgotten.
    """
    if not ema:
        return
    weight = 1 - min(decay, (1 + step) / (10 + step))
    parameters = trained_parameters(student)
    torch._foreach_lerp_(list(ema.values()), [parameters[name].detach() for name in ema], weight)


@contextmanager
def averaged(student: nn.Module, ema: Mapping[str, Tensor]) -> Iterator[None]:
    """Within: the student has its averaged weights. Without an average, its own."""
    parameters = trained_parameters(student)
    own = {name: parameters[name].detach().clone() for name in ema}
    with torch.no_grad():
        for name, value in ema.items():
            parameters[name].copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in own.items():
                parameters[name].copy_(value)
