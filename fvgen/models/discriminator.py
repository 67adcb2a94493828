"""The trained part of the discriminator: from a video network's features to one logit per clip."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.models.group_norm import GroupNorm32


class ClipDiscriminator(ModelMixin, ConfigMixin):
    """3D-convolutional heads over feature maps of a `VideoUNet`, one logit for the whole clip.

    One map, the middle block's, as in FVGen (arXiv 2508.06392, section 4.1), or several resolutions of the encoder,
    each with convolutions of its own, as in AVDM2 (arXiv 2412.05899, section 4.1). Any size and number of frames goes.

    Args:
        feature_channels: width of each map, in the order they are given.
        hidden_channels: width of the convolutions.
        norm_num_groups: groups of the normalisations.
    """

    @register_to_config
    def __init__(
        self, feature_channels: tuple[int, ...] = (1280,), hidden_channels: int = 256, norm_num_groups: int = 32
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
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(channels, hidden_channels, 3, padding=1),
                GroupNorm32(norm_num_groups, hidden_channels),
                nn.SiLU(),
                nn.Conv3d(hidden_channels, hidden_channels, 3, stride=(1, 2, 2), padding=1),
                GroupNorm32(norm_num_groups, hidden_channels),
                nn.SiLU(),
            )
            for channels in feature_channels
        )
        self.logit = nn.Linear(hidden_channels * len(feature_channels), 1)

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
        pooled = [head(x.transpose(1, 2)).mean(dim=(2, 3, 4)) for head, x in zip(self.heads, chosen, strict=True)]
        return self.logit(torch.cat(pooled, dim=1))[:, 0]
