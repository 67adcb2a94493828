"""Classifier-free guidance: the only place with its formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fvgen.checks import require


def guide(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Guided network output: ``unconditional + scale·(conditional - unconditional)``, its contrast put back in part.

    Args:
        conditional: [B, ...] output with the conditions.
        unconditional: [B, ...] output of the same network without them.
        scale: 1 returns the conditional output's value; larger follows the conditions harder.
        rescale: how much of the standard deviation that guidance added is taken away again, 0 to 1
            (Lin et al., arXiv 2305.08891, eq. 15-16): each sample is brought to the conditional output's deviation.
            A sample of one number has no deviation: nothing is taken away.

    Raises:
        InputError: when the outputs differ in shape or are not batched, or ``rescale`` is outside [0, 1].
    """
    require(
        conditional.ndim > 1,
        "conditional",
        "have shape [B, ...]",
        tuple(conditional.shape),
        "Add an axis for the batch.",
    )
    require(
        conditional.shape == unconditional.shape,
        "unconditional",
        f"have shape {tuple(conditional.shape)}",
        tuple(unconditional.shape),
        "Batch both alike.",
    )
    require(0 <= rescale <= 1, "rescale", "lie in [0, 1]", rescale, "0.7 is ViewCrafter's.")
    guided = unconditional + scale * (conditional - unconditional)
    if rescale == 0 or math.prod(guided.shape[1:]) == 1:
        return guided
    axes = tuple(range(1, conditional.ndim))
    before, after = (x.std(dim=axes, keepdim=True) for x in (conditional, guided))
    factor = torch.where(after > 0, before / after, 1.0)  # a constant output has no contrast to put back
    return rescale * (guided * factor) + (1 - rescale) * guided
