"""Pipelines of tiny random networks, and what one window of frames gives them."""

from __future__ import annotations

import torch
from tiny_pipelines import tiny_towers, tiny_vae

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.codec import SpaceToDepth
from fvgen.models.unet_3d import VideoUNet
from fvgen.types import Cameras

FRAMES = 3


def tiny_unet(latent_channels=4, context_dim=16, text_length=77, **options):
    torch.manual_seed(0)
    unet = VideoUNet(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        model_channels=16,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(2,),
        num_head_channels=8,
        context_dim=context_dim,
        text_context_length=text_length,
        image_tokens_per_frame=2,
        temporal_length=FRAMES,
        sample_frames=FRAMES,
        initial_attention_heads=2,
        norm_num_groups=8,
        **options,
    ).eval()
    for parameter in unet.parameters():  # zero-initialised outputs would hide every difference
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return unet


def seeded_vae():
    torch.manual_seed(1)
    return tiny_vae()


def clip_towers():
    torch.manual_seed(2)
    return tiny_towers(FRAMES)


def teacher():
    return FVGenPipeline(unet=tiny_unet(), vae=seeded_vae(), schedule=NoiseSchedule(base_scale=0.7), **clip_towers())


def student():
    """No towers, lossless codec: the smallest preset's layout."""
    unet = tiny_unet(latent_channels=12, text_length=1)
    return FVGenPipeline(unet=unet, vae=SpaceToDepth(2), schedule=NoiseSchedule(), sampler="few_step")


def inputs(height=16, width=24, batch=1, frames=FRAMES):
    generator = torch.Generator().manual_seed(3)
    renders = torch.rand(batch, frames, 3, height, width, generator=generator)
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = torch.linspace(0, 1, frames)
    K = torch.tensor([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]]).repeat(frames, 1, 1)
    cameras = [Cameras(c2w, K, height, width) for _ in range(batch)]
    return {"renders": renders, "photos": renders[:, [0, -1]] * 0.5, "cameras": cameras}
