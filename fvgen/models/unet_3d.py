"""The video UNet that teacher and student share: ViewCrafter's network as a diffusers model.

A 2D UNet whose every stage also looks along time, after Xing et al., "DynamiCrafter" (arXiv:2310.12190), and Yu et al.,
"ViewCrafter" (arXiv:2409.02048).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.models.attention import (
    ContextTokens,
    CrossAttention,
    SelfAttention,
    TemporalTransformer,
    zero_initialised,
)
from fvgen.models.embeddings import TimeAndFpsEmbedding
from fvgen.models.group_norm import GroupNorm32
from fvgen.models.unet_3d_inputs import check_inputs
from fvgen.models.unet_3d_stages import StageBuilder

Features = Literal["none", "middle", "multiscale"]
_FEATURES = get_args(Features)


@dataclass
class VideoUNetOutput(BaseOutput):
    """What a forward pass gives."""

    sample: Tensor | None = None
    """[B, F, out_channels, h, w]; None when only the middle block was asked for"""
    middle: Tensor | None = None
    """[B, F, C, h/s, w/s] after the middle block, s the total downsampling"""
    multiscale: tuple[Tensor, ...] | None = None
    """The encoder's last map at each resolution, finest first, each [B, F, C_i, h_i, w_i]"""


class VideoUNet(ModelMixin, ConfigMixin):
    """A UNet over clips of latents, conditioned on noise level, frame rate, text tokens and image tokens.

    The defaults are ViewCrafter's: 1,438,854,980 parameters.

    Args:
        in_channels: Channels of a latent frame, conditions stacked behind the noisy ones.
        out_channels: Channels of the prediction.
        model_channels: Width at the finest resolution; the clip's embedding is four times as wide.
        channel_mult: Width at each resolution, as a multiple of ``model_channels``.
        num_res_blocks: Stages per resolution in the encoder; the decoder has one more.
        attention_resolutions: Downsampling factors at which stages attend; the middle block always does.
        num_head_channels: Width of an attention head.
        transformer_depth: Transformer blocks per attention.
        context_dim: Width of the context's tokens.
        text_context_length: How many of the context's tokens are text; the rest are image tokens.
        image_tokens_per_frame: A context with this many image tokens for every frame gives each frame its own; with
            any other number every frame sees all of them.
        image_cross_attention: Whether image tokens have keys and values of their own, or are ignored.
        learnable_image_scale: Whether each cross-attention learns how much its image part counts.
        temporal_conv: Whether residual blocks convolve over time.
        temporal_attention: Whether stages that attend over space attend over time as well.
        causal_temporal_attention: Whether frames look only at earlier ones, in all but the initial attention.
        temporal_length: ViewCrafter's number of that name; without effect on the network.
        sample_frames: Frames of the clips it was trained on. Any number can be run.
        sample_size: Height and width of their latents. Any size with the right divisors can be run.
        initial_attention: Whether frames attend to each other right after the first convolution.
        initial_attention_heads: Heads of that attention, each ``num_head_channels`` wide whatever the stream's width.
        fps_condition: Whether the frame rate is an input.
        default_fps: The frame rate where none is given.
        dropout: Dropout in residual blocks.
        temporal_dropout: Dropout in temporal convolutions.
        norm_num_groups: Groups of every group normalisation.
        gated_inputs: How many groups of ``out_channels`` channels, counted from the sample's first, also go straight
            into the prediction, every value times a gate that the network gives. A narrow network then need not carry
            through itself the detail that it is shown (as in kernel-predicting denoisers, Bako et al. 2017).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["Stage", "MiddleBlock"]  # noqa: RUF012 (diffusers reads the class attribute)

    @register_to_config
    def __init__(
        self,
        in_channels: int = 8,
        out_channels: int = 4,
        model_channels: int = 320,
        channel_mult: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_resolutions: tuple[int, ...] = (1, 2, 4),
        num_head_channels: int = 64,
        transformer_depth: int = 1,
        context_dim: int = 1024,
        text_context_length: int = 77,
        image_tokens_per_frame: int = 16,
        image_cross_attention: bool = True,
        learnable_image_scale: bool = False,
        temporal_conv: bool = True,
        temporal_attention: bool = True,
        causal_temporal_attention: bool = False,
        temporal_length: int = 16,
        sample_frames: int = 25,
        sample_size: tuple[int, int] = (40, 64),
        initial_attention: bool = True,
        initial_attention_heads: int = 8,
        fps_condition: bool = True,
        default_fps: int = 10,
        dropout: float = 0.1,
        temporal_dropout: float = 0.1,
        norm_num_groups: int = 32,
        gated_inputs: int = 0,
    ) -> None:
        super().__init__()
        require(
            0 <= gated_inputs * out_channels <= in_channels,
            "gated_inputs",
            f"be at most in_channels {in_channels} over out_channels {out_channels}",
            gated_inputs,
            "0 switches them off.",
        )
        for width in {model_channels * mult for mult in (1, *channel_mult)}:
            require(
                width % norm_num_groups == 0 and width % num_head_channels == 0,
                "model_channels times channel_mult",
                f"be divisible by norm_num_groups {norm_num_groups} and num_head_channels {num_head_channels}",
                width,
                "Choose other widths.",
            )
        self.gradient_checkpointing = False
        self.embedding = TimeAndFpsEmbedding(model_channels, 4 * model_channels, fps_condition)
        self.conv_in = nn.Conv2d(in_channels, model_channels, 3, padding=1)
        self.attention_in = (
            TemporalTransformer(
                model_channels, initial_attention_heads, num_head_channels, transformer_depth, norm_num_groups
            )
            if initial_attention
            else None
        )
        stages = StageBuilder(self.config)
        encoder, skip_widths = stages.encoder()
        self.encoder = nn.ModuleList(encoder)
        self.middle = stages.middle(skip_widths[-1])
        self.decoder = nn.ModuleList(stages.decoder(skip_widths))
        self.norm_out = GroupNorm32(norm_num_groups, model_channels * channel_mult[0])
        predicted = out_channels * (1 + gated_inputs)
        self.conv_out = zero_initialised(nn.Conv2d(model_channels * channel_mult[0], predicted, 3, padding=1))

        for place, layer in enumerate(self._cross_attentions()):
            layer.place = place

    def _cross_attentions(self) -> list[CrossAttention]:
        return [part for part in self.modules() if isinstance(part, CrossAttention)]

    def join_projections(self) -> None:
        """Make one product of three in every self-attention, for inference (see `SelfAttention.join_projections`)."""
        for part in self.modules():
            if type(part) is SelfAttention:
                part.join_projections()

    @torch.no_grad()
    def prepare_context(self, context: Tensor, frames: int) -> ContextTokens:
        """Keys and values of a context, for many calls with the same one and without gradients.

        Args:
            context: [B, N, context_dim] tokens, text first, in the network's dtype.
            frames: of the clips.
        """
        tokens = self._split_context(context, frames)
        return tokens._replace(projected=tuple(layer.project(tokens) for layer in self._cross_attentions()))

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        context: Tensor | ContextTokens,
        fps: Tensor | None = None,
        return_features: Features = "none",
        middle_only: bool = False,
        return_dict: bool = True,
    ) -> VideoUNetOutput | tuple:
        """Predict from a noisy clip.

        Args:
            sample: [B, F, in_channels, h, w]; h and w divisible by ``2 ** (len(channel_mult) - 1)``.
            timestep: [B] noise levels.
            context: [B, N, context_dim] tokens, text first; or what `prepare_context` has made of them.
            fps: [B] frame rates; None for ``default_fps``.
            return_features: Which inner maps come along: the middle block's, or the encoder's last map at each
                resolution too.
            middle_only: Stop after the middle block: the decoder is not run and ``sample`` is None in the result.
            return_dict: False gives the present entries as a tuple.

        Raises:
            InputError: A shape does not fit the network, or there is no such feature.
        """
        require(
            return_features in _FEATURES,
            "return_features",
            f"be one of {_FEATURES}",
            return_features,
            "Name one of them.",
        )
        check_inputs(self.config, sample, timestep, None if isinstance(context, tuple) else context, fps)
        batch, frames = sample.shape[:2]
        if fps is None:
            fps = torch.full_like(timestep, self.config["default_fps"])
        embedding = self.embedding(timestep, fps, like=sample)
        tokens = context if isinstance(context, tuple) else self._split_context(context.to(sample.dtype), frames)

        x = self.conv_in(sample.flatten(0, 1))
        if self.attention_in is not None:
            x = self.attention_in(x, frames)
        skips = [x]
        for stage in self.encoder:
            x = self._run(stage, x, embedding, tokens, frames)
            skips.append(x)
        multiscale = self._finest_to_coarsest(skips, batch) if return_features == "multiscale" else None
        x = self._run(self.middle, x, embedding, tokens, frames)
        middle = x.unflatten(0, (batch, frames)) if return_features != "none" else None

        prediction = None
        if not middle_only:
            for stage in self.decoder:
                x = torch.cat([x, skips.pop()], dim=1)  # both parts are free from here on
                x = self._run(stage, x, embedding, tokens, frames)
            x = self.conv_out(self.norm_out(x, silu=True)).unflatten(0, (batch, frames))
            prediction = self._with_gated_inputs(x, sample)
        output = VideoUNetOutput(sample=prediction, middle=middle, multiscale=multiscale)
        return output if return_dict else output.to_tuple()

    def _with_gated_inputs(self, x: Tensor, sample: Tensor) -> Tensor:
        channels, count = self.config["out_channels"], self.config["gated_inputs"]
        if count == 0:
            return x
        own, gates = x.tensor_split([channels], dim=2)
        shown = sample[:, :, : count * channels].unflatten(2, (count, channels))
        return own + (gates.unflatten(2, (count, channels)) * shown).sum(2)

    def _run(self, stage: nn.Module, *inputs) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(stage, *inputs)
        return stage(*inputs)

    def _split_context(self, context: Tensor, frames: int) -> ContextTokens:
        """Text tokens for a clip; image tokens one set per frame where there are enough (see the class)."""
        config: Any = self.config
        text, image = context.tensor_split([config.text_context_length], dim=1)
        if image.shape[1] == 0:
            return ContextTokens(text, None)
        if image.shape[1] == frames * config.image_tokens_per_frame:
            image = image.reshape(-1, config.image_tokens_per_frame, image.shape[-1])
        return ContextTokens(text, image)

    def _finest_to_coarsest(self, maps: list[Tensor], batch: int) -> tuple[Tensor, ...]:
        last = {m.shape[-2:]: m.unflatten(0, (batch, -1)) for m in maps}
        return tuple(last.values())
