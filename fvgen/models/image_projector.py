"""From the tokens of an image to the tokens that frames attend to: ViewCrafter's Resampler."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from fvgen.checks import require


class PerceiverAttention(nn.Module):
    """Latents attend to an image's tokens and to themselves (Perceiver, arXiv 2103.03206; Flamingo, 2204.14198)."""

    def __init__(self, dim: int, dim_head: int, heads: int) -> None:
        super().__init__()
        inner = dim_head * heads
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, inner * 2, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """[B, N, D] for ``tokens`` [B, L, D] and ``latents`` [B, N, D]."""
        tokens, latents = self.norm1(tokens), self.norm2(latents)
        key, value = self.to_kv(torch.cat([tokens, latents], dim=1)).chunk(2, dim=-1)
        query, key, value = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.to_q(latents), key, value)
        )
        out = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(out.transpose(1, 2).flatten(2))


class ImageProjector(ModelMixin, ConfigMixin):
    """Learned queries gather an image's tokens into ``num_queries`` tokens per frame.

    Module names are those of ViewCrafter's ``image_proj_model``, so its weights load without renaming.

    Args:
        dim: width inside.
        depth: attention and feed-forward blocks.
        dim_head, heads: attention heads.
        num_queries: tokens per frame.
        embedding_dim: width of the incoming tokens.
        output_dim: width of the outgoing tokens.
        ff_mult: feed-forward width over ``dim``.
        video_length: frames the tokens are laid out for; None for one set.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 1024,
        depth: int = 4,
        dim_head: int = 64,
        heads: int = 12,
        num_queries: int = 16,
        embedding_dim: int = 1280,
        output_dim: int = 1024,
        ff_mult: int = 4,
        video_length: int | None = 16,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_queries * (video_length or 1), dim) / dim**0.5)
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(dim, dim_head, heads), self._feed_forward(dim, int(dim * ff_mult))])
            for _ in range(depth)
        )

    @staticmethod
    def _feed_forward(dim: int, inner: int) -> nn.Sequential:
        return nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, num_queries * video_length, output_dim] for image tokens [B, L, embedding_dim].

        Raises:
            InputError: for tokens of another width.
        """
        width = self.config.embedding_dim
        require(
            tokens.ndim == 3 and tokens.shape[-1] == width,
            "tokens",
            f"have shape [B, L, {width}]",
            tuple(tokens.shape),
            "Use the image encoder it was trained with.",
        )
        tokens = self.proj_in(tokens)
        latents = self.latents.expand(len(tokens), -1, -1)
        for attention, feed_forward in self.layers:  # type: ignore[misc]
            latents = latents + attention(tokens, latents)  # type: ignore[has-type]
            latents = latents + feed_forward(latents)  # type: ignore[has-type]
        return self.norm_out(self.proj_out(latents))
