"""Attention over space and over time, always through scaled_dot_product_attention: no score matrix is ever stored.

A clip travels as ``[B*F, C, h, w]``, batch-major. Keys and values of tokens that all frames share are computed once per
clip, and the queries of all its frames form one long sequence: the same sums with less work.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers.models.attention import FeedForward
from einops import rearrange
from torch import Tensor, nn

from fvgen.devices import has_kernels, is_gpu
from fvgen.models.group_norm import GroupNorm32

_MAX_GRID = 65535
"""CUDA attention kernels put batch and heads into grid dimensions of this size."""
_TOKENS_ON_CPU, _TOKENS_ON_GPU = 8192, 65536
"""Tokens a feed-forward takes at a time without gradients: its inner width is eight times that of the stream."""


class ContextTokens(NamedTuple):
    """What the frames of a batch of clips may look at."""

    text: Tensor
    """[B, S, D]"""
    image: Tensor | None
    """[B, T, D] shared by a clip's frames, or [B*F, T, D] one set per frame"""
    projected: tuple[tuple[Tensor, ...], ...] | None = None
    """Keys and values of every `CrossAttention` of a network (see `CrossAttention.project`), where they are kept"""


def multi_head_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, causal: bool = False) -> Tensor:
    """Attention of ``query`` [N, L, heads*d] to ``key`` and ``value`` [M, S, heads*d], where M divides N.

    With M < N, entry m of the context serves queries ``m*N/M ... (m+1)*N/M - 1``. Returns [N, L, heads*d].
    """

    contexts, rows, shape = len(key), max(1, _MAX_GRID // heads), query.shape

    def split(tokens: Tensor) -> tuple[Tensor, ...]:
        by_head = tokens.reshape(contexts, -1, heads, tokens.shape[-1] // heads).transpose(1, 2)
        return by_head.split(rows)

    parts = [
        F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        for q, k, v in zip(split(query), split(key), split(value), strict=True)
    ]
    del query, key, value  # the largest tensors of the network: let them go before the copy below
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).transpose(1, 2).reshape(shape)


class SelfAttention(nn.Module):
    """Multi-head self-attention without biases before the scores.

    Args:
        channels: Width of the tokens.
        heads: Number of heads.
        head_channels: Width of one head.
        context_dim: Width of the tokens that keys and values are made from; None: ``channels``.
    """

    def __init__(self, channels: int, heads: int, head_channels: int, context_dim: int | None = None) -> None:
        super().__init__()
        inner = heads * head_channels
        self.heads = heads
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_dim or channels, inner, bias=False)
        self.to_v = nn.Linear(context_dim or channels, inner, bias=False)
        self.to_out = nn.Linear(inner, channels)
        self._joined: Tensor | None = None

    def join_projections(self) -> None:
        """Lay the weights of queries, keys and values side by side, so that one product does for three.

        For inference: with gradients, or where an adapter wraps one of the layers, they are applied apart as before.
        The parameters become views of the joined weight: names and values that are saved stay the same.
        """
        layers = (self.to_q, self.to_k, self.to_v)
        joined = torch.cat([layer.weight.detach() for layer in layers])
        for layer, part in zip(layers, joined.chunk(3), strict=True):
            layer.weight.data = part
        self._joined = joined

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of ``x``."""
        joined = self._joined
        if joined is not None and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            plain = type(self.to_q) is type(self.to_k) is type(self.to_v) is nn.Linear
            if plain and self.to_q.weight.data_ptr() == joined.data_ptr():  # else moved, cast or replaced since
                query, key, value = F.linear(x, joined).chunk(3, dim=-1)
                return query, key, value
        return self.to_q(x), self.to_k(x), self.to_v(x)

    def forward(self, x: Tensor, causal: bool = False) -> Tensor:
        """Attend among the tokens of each row of ``x`` [N, L, C]; ``causal``: only to earlier ones."""
        query, key, value = self._projected(x)
        return self.to_out(multi_head_attention(query, key, value, self.heads, causal))


class CrossAttention(SelfAttention):
    """Cross-attention to text and image tokens: the same queries, separate keys and values, results summed.

    IP-Adapter (arXiv:2308.06721, equation 5).

    Args:
        channels: Width of the tokens that ask.
        heads: Number of heads.
        head_channels: Width of one head.
        context_dim: Width of the text and image tokens.
        image_tokens: Whether image tokens have keys and values of their own; without, only text is looked at.
        learnable_image_scale: Whether the image's part is multiplied by ``tanh(alpha) + 1``, alpha learned.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        head_channels: int,
        context_dim: int,
        image_tokens: bool = True,
        learnable_image_scale: bool = False,
    ) -> None:
        super().__init__(channels, heads, head_channels, context_dim)
        inner = heads * head_channels
        self.to_k_ip = nn.Linear(context_dim, inner, bias=False) if image_tokens else None
        self.to_v_ip = nn.Linear(context_dim, inner, bias=False) if image_tokens else None
        self.alpha = nn.Parameter(torch.zeros(())) if image_tokens and learnable_image_scale else None
        self.place = 0
        """Number among the network's cross-attentions."""

    def project(self, tokens: ContextTokens) -> tuple[Tensor, ...]:
        """Key and value of the text, then of the image where it is looked at."""
        text = self.to_k(tokens.text), self.to_v(tokens.text)
        if self.to_k_ip is None or self.to_v_ip is None or tokens.image is None:
            return text
        return *text, self.to_k_ip(tokens.image), self.to_v_ip(tokens.image)

    def forward(self, x: Tensor, tokens: ContextTokens) -> Tensor:  # type: ignore[override]
        """Attend from ``x`` [B*F, L, C] to ``tokens``."""
        query = self.to_q(x)
        key, value, *of_image = self.project(tokens) if tokens.projected is None else tokens.projected[self.place]
        out = multi_head_attention(query, key, value, self.heads)
        if of_image:
            key, value = of_image
            seen = multi_head_attention(query, key, value, self.heads)
            out = out + (seen if self.alpha is None else seen * (torch.tanh(self.alpha) + 1))
        return self.to_out(out)


class SlicedFeedForward(FeedForward):
    """Diffusers' feed-forward (GELU-gated, four times as wide), in slices of tokens when no gradient is asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply to each token of ``x`` [N, L, C]."""
        rows = max(1, (_TOKENS_ON_GPU if is_gpu(x.device) else _TOKENS_ON_CPU) // x.shape[1])
        if torch.is_grad_enabled() or len(x) <= rows:
            return self._whole(x)
        return torch.cat([self._whole(part) for part in x.split(rows)])

    def _whole(self, x: Tensor) -> Tensor:
        if not has_kernels(x.device):
            return super().forward(x)
        from fvgen.models.geglu_triton import FusedGeglu

        gated, dropout, out = self.net
        return out(dropout(FusedGeglu.apply(gated.proj(x))))


class TransformerBlock(nn.Module):
    """Self-attention, a second attention, feed-forward; each after layer normalisation and added to the stream.

    Args:
        channels: Width of the stream.
        heads: Number of heads.
        head_channels: Width of one head.
        second: The second attention: to tokens of the context, or among the stream's own again.
    """

    def __init__(self, channels: int, heads: int, head_channels: int, second: SelfAttention) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = SelfAttention(channels, heads, head_channels)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = second
        self.norm3 = nn.LayerNorm(channels)
        self.ff = SlicedFeedForward(channels, activation_fn="geglu")

    def forward(self, x: Tensor, tokens: ContextTokens | None = None, causal: bool = False) -> Tensor:
        """Transform ``x`` [N, L, C]; the second attention looks at ``tokens`` when given, else at ``x``."""
        x = self.attn1(self.norm1(x), causal=causal) + x
        x = (self.attn2(self.norm2(x), causal=causal) if tokens is None else self.attn2(self.norm2(x), tokens)) + x
        return self.ff(self.norm3(x)) + x


def zero_initialised(module: nn.Module) -> nn.Module:
    """``module`` with its parameters at zero, so that the branch it ends starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class SpatialTransformer(nn.Module):
    """Attention among the positions of each frame, and from them to text and image tokens.

    Args:
        channels: Width of the feature map; heads are ``channels / head_channels``.
        head_channels: Width of one head.
        depth: Number of transformer blocks.
        norm_groups: Groups of the first normalisation.
        cross_attention: Keyword arguments of `CrossAttention` beyond the widths.
    """

    def __init__(self, channels: int, head_channels: int, depth: int, norm_groups: int, **cross_attention) -> None:
        super().__init__()
        heads = channels // head_channels
        self.norm = GroupNorm32(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(
                channels, heads, head_channels, CrossAttention(channels, heads, head_channels, **cross_attention)
            )
            for _ in range(depth)
        )
        self.proj_out = zero_initialised(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: ContextTokens) -> Tensor:
        """Transform ``x`` [B*F, C, h, w]."""
        height, width = x.shape[-2:]
        stream = self.proj_in(rearrange(self.norm(x), "n c h w -> n (h w) c"))
        for block in self.transformer_blocks:
            stream = block(stream, tokens)
        return rearrange(self.proj_out(stream), "n (h w) c -> n c h w", h=height, w=width) + x


class TemporalTransformer(nn.Module):
    """Attention among the frames at each position. It has no notion of time but the frames' content.

    Args:
        channels: Width of the feature map.
        heads: Number of heads.
        head_channels: Width of one head; ``heads * head_channels`` need not equal ``channels``.
        depth: Number of transformer blocks.
        norm_groups: Groups of the first normalisation, whose statistics are over frames too.
        causal: Whether frames look only at themselves and earlier ones.
    """

    def __init__(
        self, channels: int, heads: int, head_channels: int, depth: int, norm_groups: int, causal: bool = False
    ) -> None:
        super().__init__()
        inner = heads * head_channels
        self.causal = causal
        self.norm = GroupNorm32(norm_groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(inner, heads, head_channels, SelfAttention(inner, heads, head_channels))
            for _ in range(depth)
        )
        self.proj_out = zero_initialised(nn.Linear(inner, channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """Transform ``x`` [B*F, C, h, w], F being ``frames``."""
        height, width = x.shape[-2:]
        clips = self.norm(rearrange(x, "(b f) c h w -> b c f (h w)", f=frames))
        stream = self.proj_in(rearrange(clips, "b c f hw -> (b hw) f c"))
        for block in self.transformer_blocks:
            stream = block(stream, causal=self.causal)
        return rearrange(self.proj_out(stream), "(b h w) f c -> (b f) c h w", h=height, w=width) + x
