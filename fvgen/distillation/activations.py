"""How many bytes a network's forward pass keeps for its backward pass, counted without computing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Activations:
    """Bytes kept between forward and backward pass of one micro-batch."""

    kept: int
    """Bytes with everything kept."""
    checkpointed: int
    """Bytes with gradient checkpointing: the blocks' inputs, and the inside of the largest block."""
    working: int
    """Bytes inside of the largest block: what a pass without gradients needs at most."""


@dataclass(frozen=True)
class ClipLatents:
    """Shape of a micro-batch as a network sees it."""

    clips: int
    frames: int
    channels: int
    """Channels of noisy latents and condition together."""
    height: int
    width: int
    tokens: int
    """Tokens of text and image together."""


def count_activations(network: Any, shape: ClipLatents, dtype: torch.dtype, middle_only: bool = False) -> Activations:
    """Run the network's twin on torch's meta device and count what autograd keeps.

    Args:
        network: a `VideoUNet`, or a model with its configuration and call.
        shape: of the input.
        dtype: that it computes in.
        middle_only: stop after the middle block, as for a discriminator's features.
    """
    with torch.device("meta"):
        twin = _twin(network, dtype)
        lead = (shape.clips, shape.frames, shape.channels, shape.height, shape.width)
        sample = torch.empty(lead, dtype=dtype, requires_grad=True)
        context = torch.empty(shape.clips, shape.tokens, network.config.context_dim, dtype=dtype)
        numbers = torch.empty(shape.clips, dtype=torch.int64)
    return _counted(
        twin,
        network._no_split_modules,
        lambda: twin(sample, numbers, context, numbers, return_features="middle", middle_only=middle_only),
    )


def count_image_activations(
    network: Any, shape: ClipLatents, frames: int, tokens: int, dtype: torch.dtype
) -> Activations:
    """The same of a diffusers 2D UNet.

    Args:
        network: a `UNet2DConditionModel`, or a `UNet2DModel`.
        shape: of the clips.
        frames: of each clip that it sees.
        tokens: text tokens that it gets for each frame; 0 for none.
        dtype: that it computes in.
    """
    count = shape.clips * min(frames, shape.frames)
    with torch.device("meta"):
        twin = _twin(network, dtype)
        lead = (count, network.config.in_channels, shape.height, shape.width)
        sample = torch.empty(lead, dtype=dtype, requires_grad=True)
        numbers = torch.empty(count, dtype=torch.int64)
        width = network.config.get("cross_attention_dim")
        text = {"encoder_hidden_states": torch.empty(count, tokens, width, dtype=dtype)} if tokens else {}
    return _counted(twin, _CHECKPOINTED, lambda: twin(sample, numbers, **text))


_CHECKPOINTED = ("ResnetBlock2D", "BasicTransformerBlock")
"""Blocks whose inside diffusers computes again under gradient checkpointing."""


def _twin(network: Any, dtype: torch.dtype) -> Any:
    twin = type(network).from_config(network.config).eval()
    return nn.Module.to(twin, dtype)  # diffusers' own `to` warns of layers to be kept in float32: there are none


def _counted(twin: nn.Module, blocks: Iterable[str], run: Callable[[], Any]) -> Activations:
    counter = _Counter(twin, blocks)
    with counter.counting(), _FusedAttention():
        out = run()
    del out
    return counter.result()


class _Counter:
    """Counts saved tensors by the block that is at work when they are saved."""

    def __init__(self, network: nn.Module, blocks: Iterable[str]) -> None:
        kinds = set(blocks)
        self._blocks = [part for part in network.modules() if type(part).__name__ in kinds]
        self._seen = {p.untyped_storage()._cdata for p in network.parameters()}
        self._inside: dict[int, int] = {}
        self._inputs = 0
        self._outside = 0
        self._block: int | None = None

    @contextmanager
    def counting(self) -> Iterator[None]:
        handles = []
        for number, block in enumerate(self._blocks):
            handles += [
                block.register_forward_pre_hook(self._entering(number)),
                block.register_forward_hook(self._left),
            ]
        with torch.autograd.graph.saved_tensors_hooks(self._saved, lambda tensor: tensor):
            yield
        for handle in handles:
            handle.remove()

    def _entering(self, number: int):
        def enter(block: nn.Module, inputs: tuple[Any, ...]) -> None:
            self._block = number
            self._inputs += inputs[0].numel() * inputs[0].element_size()

        return enter

    def _left(self, *_: Any) -> None:
        self._block = None

    def _saved(self, tensor: Tensor) -> Tensor:
        # Views share their storage; the graph holds all of them, so no address is used twice.
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            if self._block is None:
                self._outside += storage.nbytes()
            else:
                self._inside[self._block] = self._inside.get(self._block, 0) + storage.nbytes()
        return tensor

    def result(self) -> Activations:
        largest = max(self._inside.values(), default=0)
        return Activations(
            kept=self._outside + sum(self._inside.values()),
            checkpointed=self._outside + self._inputs + largest,
            working=largest,
        )


class _FusedAttention(TorchFunctionMode):
    """Has attention keep what its fused kernels keep; on the meta device torch would store score matrices."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            return _KeepsInputs.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _KeepsInputs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError  # memory is counted, nothing is computed
