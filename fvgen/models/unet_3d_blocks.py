"""The stages of the video UNet: residual block, attention over space, attention over time, change of resolution.

Feature maps are ``[B*F, C, h, w]``, batch-major.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from fvgen.models.attention import ContextTokens, SpatialTransformer, TemporalTransformer, zero_initialised
from fvgen.models.group_norm import GroupNorm32


class TemporalConvLayer(nn.Module):
    """Normalise, SiLU, drop out, convolve three frames at one position.

    Frames are one image axis and positions the other, ``[B, C, F, h*w]``: a 3x1 convolution is the same sum as a 3x1x1
    one over a volume, has kernels in every layout, and needs no copy of a channels-last map.
    """

    def __init__(self, channels: int, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.norm = GroupNorm32(norm_groups, channels)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))

    def forward(self, clips: Tensor) -> Tensor:
        """Filter ``clips`` [B, C, F, h*w]."""
        return self.conv(self.dropout(self.norm(clips, silu=True)))


class TemporalConvBlock(nn.Module):
    """Four temporal convolutions added to the stream; the last starts at zero."""

    def __init__(self, channels: int, norm_groups: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TemporalConvLayer(channels, norm_groups, dropout if i > 0 else 0.0) for i in range(4)
        )
        zero_initialised(self.layers[-1].get_submodule("conv"))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Filter ``x`` [B*F, C, h, w] over its ``frames``."""
        clips = rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)
        for layer in self.layers:
            clips = layer(clips)
        return rearrange(clips, "b c f (h w) -> (b f) c h w", h=x.shape[-2]) + x


class ResBlock(nn.Module):
    """Two convolutions per frame, the clip's embedding added between them, then a temporal convolution block.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        embedding_channels: Width of the clip's embedding.
        norm_groups: Groups of every normalisation.
        dropout: Probability before the second convolution.
        temporal_dropout: Probability inside the temporal block; None leaves that block out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding_channels: int,
        norm_groups: int,
        dropout: float,
        temporal_dropout: float | None,
    ) -> None:
        super().__init__()
        self.norm1 = GroupNorm32(norm_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding_channels, out_channels)
        self.norm2 = GroupNorm32(norm_groups, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None
        self.temporal_conv = (
            None if temporal_dropout is None else TemporalConvBlock(out_channels, norm_groups, temporal_dropout)
        )

    def forward(self, x: Tensor, embedding: Tensor, frames: int) -> Tensor:
        """Transform ``x`` [B*F, C, h, w] given the clips' ``embedding`` [B, E]."""
        hidden = self.conv1(self.norm1(x, silu=True))
        shift = self.time_emb_proj(F.silu(embedding)).repeat_interleave(frames, dim=0)
        hidden = self.conv2(self.dropout(self.norm2(hidden, silu=True, shift=shift)))
        hidden = hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return hidden if self.temporal_conv is None else self.temporal_conv(hidden, frames)


class Upsample(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, 2h, 2w]."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Module):
    """One stage of the encoder or decoder: what is present of the four parts, in this order."""

    def __init__(
        self,
        resnet: ResBlock | None = None,
        spatial_attention: SpatialTransformer | None = None,
        temporal_attention: TemporalTransformer | None = None,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.resnet = resnet
        self.spatial_attention = spatial_attention
        self.temporal_attention = temporal_attention
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, tokens: ContextTokens, frames: int) -> Tensor:
        """Transform ``x`` [B*F, C, h, w] given the clips' ``embedding`` [B, E] and ``tokens``."""
        if self.resnet is not None:
            x = self.resnet(x, embedding, frames)
        if self.spatial_attention is not None:
            x = self.spatial_attention(x, tokens)
        if self.temporal_attention is not None:
            x = self.temporal_attention(x, frames)
        return x if self.resample is None else self.resample(x)


class MiddleBlock(Stage):
    """The lowest resolution: a stage, then one more residual block."""

    def __init__(self, resnet_out: ResBlock, **parts: nn.Module | None) -> None:
        super().__init__(**parts)  # type: ignore[arg-type]
        self.resnet_out = resnet_out

    def forward(self, x: Tensor, embedding: Tensor, tokens: ContextTokens, frames: int) -> Tensor:
        """Transform ``x`` [B*F, C, h, w] given the clips' ``embedding`` [B, E] and ``tokens``."""
        return self.resnet_out(super().forward(x, embedding, tokens, frames), embedding, frames)
