"""The family of f-divergences a student can be trained with: one table of (f, h).

With r = p_real / p_fake a divergence is E_fake[f(r)], and its gradient weighs the score difference of every generated
sample by h(r) = r²·f''(r) (f-distill, Xu et al., arXiv 2502.15681, theorem 1):

    d/dθ E_fake[f(r)] = -E[ h(r)·(s_real(x) - s_fake(x))·dx/dθ ],   x drawn from the student.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

DivergenceName = Literal[
    "reverse_kl", "softened_reverse_kl", "js", "squared_hellinger", "forward_kl", "jeffreys", "paper_eq8"
]


@dataclass(frozen=True)
class Divergence:
    """One f-divergence of the density ratio r = p_real / p_fake > 0."""

    f: Callable[[Tensor], Tensor] | None
    """[...] -> [...]: the divergence is the student's mean of f(r). None where the weight is a misprint's."""
    h: Callable[[Tensor], Tensor]
    """[...] -> [...]: weight of the score difference, r²·f''(r)."""
    needs_ratio: bool = True
    """False where h is constant, so that no discriminator has to be asked."""


DIVERGENCES: Mapping[str, Divergence] = {
    "reverse_kl": Divergence(lambda r: -torch.log(r), torch.ones_like, needs_ratio=False),
    # Twice KL(½p_real + ½p_fake || p_real), FVGen eq. 6. Bounded by 1: samples the teacher finds likely count less. At
    # equal curvature around r = 1 a mode that is left out costs .61 of what it costs under reverse KL.
    "softened_reverse_kl": Divergence(lambda r: (r + 1) * torch.log(0.5 + 0.5 / r), lambda r: 1 / (r + 1)),
    "js": Divergence(lambda r: r * torch.log(r) - (r + 1) * torch.log((r + 1) / 2), lambda r: r / (r + 1)),
    "squared_hellinger": Divergence(lambda r: 1 - torch.sqrt(r), lambda r: torch.sqrt(r) / 4),
    "forward_kl": Divergence(lambda r: r * torch.log(r), lambda r: r),
    "jeffreys": Divergence(lambda r: (r - 1) * torch.log(r), lambda r: r + 1),
    # FVGen eq. 8 as printed. It is not r²·f''(r) of eq. 6, whose proof in the supplement ends at 1/(r+1), and it has
    # no bound near r = 0: for reproducing the text, nothing else.
    "paper_eq8": Divergence(None, lambda r: 1 / r),
}
"""Divergences by name. ``softened_reverse_kl`` is FVGen's."""
