"""Group normalisation as the video UNet uses it: statistics in float32, SiLU behind it, a shift before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fvgen.devices import has_kernels


class GroupNorm32(nn.GroupNorm):
    """Group normalisation with statistics in at least float32.

    Half-precision kernels round mean and inverse deviation to the input's dtype (0.4 % in bfloat16); ViewCrafter's
    networks saw float32 here in training, under autocast too. On a GPU one Triton kernel does all that a call asks for.
    """

    def forward(self, x: Tensor, silu: bool = False, shift: Tensor | None = None) -> Tensor:
        """``normalise(x + shift)``, then SiLU if asked for.

        Args:
            x: [N, C, ...].
            silu: whether SiLU follows.
            shift: [N, C], added before.
        """
        if has_kernels(x.device) and x.ndim <= 4:
            from fvgen.models.group_norm_triton import FusedGroupNorm

            out: Tensor = FusedGroupNorm.apply(x, self.weight, self.bias, shift, self.num_groups, self.eps, silu)
            return out
        if shift is not None:
            x = x + shift.view(*shift.shape, *([1] * (x.ndim - 2)))
        if x.dtype in (torch.float16, torch.bfloat16):
            weight, bias = self.weight.float(), self.bias.float()
            y = F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)
        else:
            y = super().forward(x)
        return F.silu(y, inplace=not torch.is_grad_enabled()) if silu else y
