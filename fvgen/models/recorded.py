"""A network's call recorded once per shape and replayed: on a GPU a graph of its kernels, launched as one.

One call of the video UNet launches thousands of kernels; the CPU needs longer for that than the GPU for the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fvgen.devices import record

Inputs = Any
"""A tensor, None, or a tuple of inputs, nested at will."""


class Recorded:
    """``function`` of tensors, without gradients, its kernels replayed.

    Everything that it reads beside its inputs must stay where it is in memory: weights may change in place only.

    Args:
        function: from `Inputs` to a tensor; must not wait for the GPU, nor ask for values.
        recorder: ``recorder(run) -> (replay, output)``, see `fvgen.devices.record`.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        recorder: Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]] = record,
    ) -> None:
        self._function = function
        self._recorder = recorder
        self._recordings: dict[Any, tuple[Inputs, Callable[[], None], Tensor]] = {}

    @torch.no_grad()
    def __call__(self, *inputs: Inputs) -> Tensor:
        """What ``function`` gives for ``inputs``, in memory of its own."""
        key = _shapes(inputs)
        if key not in self._recordings:
            held = _map(torch.clone, inputs)
            replay, output = self._recorder(lambda: self._function(*held))
            self._recordings[key] = held, replay, output
        held, replay, output = self._recordings[key]
        for target, source in zip(_tensors(held), _tensors(inputs), strict=True):
            target.copy_(source)
        replay()
        return output.clone()


def _map(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    if isinstance(inputs, tuple):
        parts = [_map(function, part) for part in inputs]
        return type(inputs)(*parts) if hasattr(inputs, "_fields") else tuple(parts)  # named tuples stay such
    return inputs if inputs is None else function(inputs)


def _tensors(inputs: Inputs) -> list[Tensor]:
    if isinstance(inputs, tuple):
        return [tensor for part in inputs for tensor in _tensors(part)]
    return [] if inputs is None else [inputs]


def _shapes(inputs: Inputs) -> Any:
    if isinstance(inputs, tuple):
        return tuple(_shapes(part) for part in inputs)
    return None if inputs is None else (inputs.shape, inputs.stride(), inputs.dtype, inputs.device)
