"""From a network and its conditions to the one thing samplers ask for: x0."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import Conditions
from fvgen.diffusion.guidance import guide
from fvgen.diffusion.prediction import OutputKind
from fvgen.diffusion.sampling import Denoise

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule


def conditional_denoiser(
    network: Callable[..., Any],
    conditions: Conditions,
    schedule: NoiseSchedule,
    *,
    guidance_scale: float = 1.0,
    guidance_rescale: float = 0.0,
    kind: OutputKind = "v",
    dtype: torch.dtype | None = None,
    prepare: Callable[[Tensor, int], Any] | None = None,
) -> Denoise:
    """``denoise(x_t, t) -> x0`` of a video network under conditions, with classifier-free guidance.

    Args:
        network: ``network(sample [B, F, 2C, h, w], timestep [B], tokens [B, N, D], fps [B]).sample``; the noisy latents
            stand before the render's.
        conditions: encoded conditions of the B clips.
        schedule: the schedule the network was trained with.
        guidance_scale: 1 calls the network once a step; anything else twice (see `guide`).
        guidance_rescale: see `guide`.
        kind: what the network predicts.
        dtype: what the network computes in; None for x_t's own. x0 comes back in x_t's dtype.
        prepare: ``prepare(tokens, frames)``, called once; what it gives is shown to the network in the tokens' place
            (see `VideoUNet.prepare_context`). Without gradients only.

    Raises:
        InputError: when guidance is asked for and the conditions hold no unconditional tokens, or shapes disagree.
    """
    unconditional = None if guidance_scale == 1 else conditions.unconditional()

    contexts: dict[int, Any] = {}

    def context(known: Conditions, sample: Tensor) -> Any:
        if prepare is None:
            return known.tokens.to(sample)
        if id(known) not in contexts:
            contexts[id(known)] = prepare(known.tokens.to(sample), sample.shape[1])
        return contexts[id(known)]

    def predict(x_t: Tensor, t: Tensor, known: Conditions) -> Tensor:
        sample = torch.cat([x_t, known.render_latents.to(x_t)], dim=2).to(dtype or x_t.dtype)
        output: Tensor = network(sample, t, context(known, sample), known.fps).sample
        return output.to(x_t.dtype)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        latents = conditions.render_latents
        require(
            x_t.shape[:2] == latents.shape[:2] and x_t.shape[3:] == latents.shape[3:],
            "x_t",
            f"match the render's latents {tuple(latents.shape)}",
            tuple(x_t.shape),
            "Use one size of clip.",
        )
        output = predict(x_t, t, conditions)
        if unconditional is not None:
            output = guide(output, predict(x_t, t, unconditional), guidance_scale, guidance_rescale)
        return schedule.to_x0(output, x_t, t, kind)

    return denoise
