"""What a `VideoUNet` may be given."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fvgen.checks import require


def check_inputs(config: Any, sample: Tensor, timestep: Tensor, context: Tensor | None, fps: Tensor | None) -> None:
    """Refuse inputs whose shapes do not fit a `VideoUNet` of this configuration.

    Args:
        config: the network's.
        sample, timestep, fps: see `VideoUNet.forward`.
        context: the same; None where a prepared one is given.

    Raises:
        InputError: with the rule and the shape.
    """
    multiple = 2 ** (len(config.channel_mult) - 1)
    require(
        sample.ndim == 5 and sample.shape[1] > 0 and sample.shape[2] == config.in_channels,
        "sample",
        f"have shape [B, F, {config.in_channels}, h, w]",
        tuple(sample.shape),
        "Stack the condition's latents behind the noisy ones along the channels.",
    )
    require(
        sample.shape[3] % multiple == 0 and sample.shape[4] % multiple == 0,
        "sample",
        f"have height and width divisible by {multiple}",
        tuple(sample.shape[3:]),
        "Pad or crop it.",
    )
    if context is not None:
        _check_context(config, context, len(sample))
    for name, value in (("timestep", timestep), ("fps", fps)):
        require(
            value is None or value.shape == sample.shape[:1],
            name,
            f"have shape [{sample.shape[0]}]",
            None if value is None else tuple(value.shape),
            "Give one number per clip.",
        )


def _check_context(config: Any, context: Tensor, batch: int) -> None:
    require(
        context.ndim == 3 and context.shape[0] == batch and context.shape[2] == config.context_dim,
        "context",
        f"have shape [{batch}, N, {config.context_dim}]",
        tuple(context.shape),
        "Give text tokens, then image tokens, for each clip.",
    )
    require(
        context.shape[1] >= config.text_context_length,
        "context",
        f"hold at least {config.text_context_length} text tokens",
        context.shape[1],
        "Put the text's tokens first.",
    )
