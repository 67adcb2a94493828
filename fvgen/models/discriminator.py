"""The trained part of the discriminator: from a video network's features to one logit per clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from einops import rearrange, reduce
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.models.discriminator_heads import Head
from fvgen.models.group_norm import GroupNorm32


class ClipDiscriminator(ModelMixin, ConfigMixin):
    """Convolutional heads over feature maps of a `VideoUNet`, one logit for the whole clip.

    One map, the middle block's, as in FVGen (arXiv 2508.06392, section 4.1), or several resolutions of the encoder,
    each with convolutions of its own, as in AVDM2 (arXiv 2412.05899, section 4.1). Any size and number of frames goes.

    Args:
        feature_channels: width of each map, in the order they are given.
        hidden_channels: width of the convolutions.
        norm_num_groups: groups of the normalisations.
        head: see `Head`.
    """

    @register_to_config
    def __init__(
        self,
        feature_channels: tuple[int, ...] = (1280,),
        hidden_channels: int = 256,
        norm_num_groups: int = 32,
        head: Head = "pooled",
    ) -> None:
        super().__init__()
        require(len(feature_channels) > 0, "feature_channels", "name a map", feature_channels, "Give (1280,).")
        require(
            hidden_channels % norm_num_groups == 0,
            "hidden_channels",
            f"be divisible by norm_num_groups {norm_num_groups}",
            hidden_channels,
            "Give 256.",
        )
        require(head in get_args(Head), "head", f"be one of {get_args(Head)}", head, "pooled is FVGen's.")
        time = 1 if head == "frames" else 3
        kernel, padding = (time, 3, 3), (time // 2, 1, 1)

        def convolved(channels: int, stride: int) -> list[nn.Module]:
            convolution = nn.Conv3d(channels, hidden_channels, kernel, (1, stride, stride), padding)
            return [convolution, GroupNorm32(norm_num_groups, hidden_channels), nn.SiLU()]

        self.heads = nn.ModuleList(
            nn.Sequential(*convolved(channels, 1), *convolved(hidden_channels, 2)) for channels in feature_channels
        )
        joined = hidden_channels * len(feature_channels)
        self.joint = nn.Sequential(*convolved(joined, 1)) if head == "concatenated" else None
        self.logit = nn.Linear(joined if self.joint is None else hidden_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits [B] of maps [B, F, C_i, h_i, w_i]: above 0 for "real".

        Of more maps than there are heads the last (coarsest) are taken.

        Raises:
            InputError: there are fewer maps than heads.
        """
        require(
            len(features) >= len(self.heads),
            "features",
            f"hold at least {len(self.heads)} maps",
            len(features),
            "Use a discriminator for this network.",
        )
        chosen = features[len(features) - len(self.heads) :]
        maps = [head(rearrange(x, "b f c h w -> b c f h w")) for head, x in zip(self.heads, chosen, strict=True)]
        if self.joint is not None:  # all at the coarsest map's resolution
            maps = [self.joint(torch.cat([F.adaptive_avg_pool3d(x, maps[-1].shape[2:]) for x in maps], dim=1))]
        pooled = [reduce(x, "b c f h w -> b c", "mean") for x in maps]
        return self.logit(torch.cat(pooled, dim=1))[:, 0]
