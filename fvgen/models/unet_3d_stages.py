"""Which stages a configuration of the video UNet asks for."""

from __future__ import annotations

from typing import Any

from torch import nn

from fvgen.models.attention import SpatialTransformer, TemporalTransformer
from fvgen.models.unet_3d_blocks import MiddleBlock, ResBlock, Stage, Upsample


class StageBuilder:
    """Makes the stages of `fvgen.models.unet_3d.VideoUNet`, with new weights.

    Args:
        config: the network's arguments by name.
    """

    def __init__(self, config: Any) -> None:
        self._config = config

    def encoder(self) -> tuple[list[Stage], list[int]]:
        """The stages, and the width of every map the decoder takes back (the first convolution's included)."""
        config = self._config
        stages: list[Stage] = []
        widths = [config.model_channels]
        for level, mult in enumerate(config.channel_mult):
            channels = mult * config.model_channels
            for _ in range(config.num_res_blocks):
                attend = self._attend(channels) if 2**level in config.attention_resolutions else {}
                stages.append(Stage(self._resnet(widths[-1], channels), **attend))
                widths.append(channels)
            if level < len(config.channel_mult) - 1:
                stages.append(Stage(resample=nn.Conv2d(channels, channels, 3, stride=2, padding=1)))
                widths.append(channels)
        return stages, widths

    def middle(self, width: int) -> MiddleBlock:
        """The block between encoder and decoder."""
        return MiddleBlock(self._resnet(width, width), resnet=self._resnet(width, width), **self._attend(width))

    def decoder(self, skip_widths: list[int]) -> list[Stage]:
        """The stages, each of which takes one more map of the encoder's ``skip_widths``, the last first."""
        config = self._config
        stages: list[Stage] = []
        width, skips = skip_widths[-1], list(skip_widths)
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            channels = mult * config.model_channels
            for block in range(config.num_res_blocks + 1):
                attend = self._attend(channels) if 2**level in config.attention_resolutions else {}
                grow = Upsample(channels) if level > 0 and block == config.num_res_blocks else None
                stages.append(Stage(self._resnet(width + skips.pop(), channels), resample=grow, **attend))
                width = channels
        return stages

    def _resnet(self, in_channels: int, out_channels: int) -> ResBlock:
        config = self._config
        return ResBlock(
            in_channels,
            out_channels,
            embedding_channels=4 * config.model_channels,
            norm_groups=config.norm_num_groups,
            dropout=config.dropout,
            temporal_dropout=config.temporal_dropout if config.temporal_conv else None,
        )

    def _attend(self, channels: int) -> dict[str, Any]:
        config = self._config
        head, depth, groups = config.num_head_channels, config.transformer_depth, config.norm_num_groups
        spatial = SpatialTransformer(
            channels,
            head,
            depth,
            groups,
            context_dim=config.context_dim,
            image_tokens=config.image_cross_attention,
            learnable_image_scale=config.learnable_image_scale,
        )
        temporal = TemporalTransformer(
            channels, channels // head, head, depth, groups, causal=config.causal_temporal_attention
        )
        return {
            "spatial_attention": spatial,
            "temporal_attention": temporal if config.temporal_attention else None,
        }
