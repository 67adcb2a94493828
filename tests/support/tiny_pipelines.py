"""Pipelines whose networks are tiny and random but of every real kind."""

from __future__ import annotations

from dataclasses import asdict

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPVisionModel

from fvgen.conditioning.residual import ResidualSpace, residual_condition_channels
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.codec import SpaceToDepth, SpaceToDepthCodec
from fvgen.models.convert_openclip import text_config, vision_config
from fvgen.models.image_projector import ImageProjector
from fvgen.models.unet_3d import VideoUNet

FRAMES = 4
"""Frames of the clips that the networks count as trained on."""


def tiny_pipeline(kind: str) -> FVGenPipeline:
    """A "student" with a lossless codec and no towers, a "corrector" that is a student which corrects warps, or a
    "teacher" with all components; the same at every call."""
    torch.manual_seed(0)
    if kind == "corrector":
        vae = SpaceToDepth(2)
        channels = residual_condition_channels(SpaceToDepthCodec(vae))
        unet = _unet(latent_channels=12, text_length=1, condition_channels=channels)
        return FVGenPipeline(unet, vae, NoiseSchedule(), sampler="few_step", residual=asdict(ResidualSpace()))
    if kind == "student":
        return FVGenPipeline(
            _unet(latent_channels=12, text_length=1), SpaceToDepth(2), NoiseSchedule(base_scale=0.7), sampler="few_step"
        )
    return FVGenPipeline(
        _unet(latent_channels=4, text_length=77), tiny_vae(), NoiseSchedule(base_scale=0.7), **tiny_towers(FRAMES)
    )


def tiny_vae() -> AutoencoderKL:
    """Two pixels to a latent one, 4 channels."""
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    ).eval()


def tiny_towers(frames: int) -> dict[str, torch.nn.Module]:
    """CLIP's text and image tower, and the projector for clips of so many frames; 16 wide."""
    vision = vision_config(image_size=28, patch_size=14, width=16, head_width=8, layers=1)
    return {
        "text_encoder": CLIPTextModel(text_config(vocab_size=49408, width=16, heads=2, layers=2)).eval(),
        "image_encoder": CLIPVisionModel(vision).eval(),
        "image_projector": ImageProjector(
            dim=16, depth=1, dim_head=8, heads=2, num_queries=2, embedding_dim=16, output_dim=16, video_length=frames
        ).eval(),
    }


def _unet(latent_channels: int, text_length: int, condition_channels: int | None = None) -> VideoUNet:
    unet = VideoUNet(
        in_channels=latent_channels + (condition_channels or latent_channels),
        out_channels=latent_channels,
        model_channels=8,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(2,),
        num_head_channels=8,
        context_dim=16,
        text_context_length=text_length,
        image_tokens_per_frame=2,
        temporal_length=FRAMES,
        sample_frames=FRAMES,
        sample_size=(24, 32),
        initial_attention_heads=1,
        norm_num_groups=4,
    ).eval()
    for parameter in unet.parameters():
        if parameter.ndim > 1:  # zero-initialised outputs would hide every difference
            torch.nn.init.normal_(parameter, std=0.1)
    return unet
