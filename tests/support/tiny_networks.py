"""Tiny networks of every real kind, and a batch for them."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel, UNet2DModel

from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.objectives.avdm2 import AVDM2
from fvgen.distillation.objectives.causvid import CausVid, CausVidRegression
from fvgen.distillation.objectives.dmd2 import DMD2
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.distillation.start import build_roles
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.unet_3d import VideoUNet

FRAMES, CHANNELS, RENDER_CHANNELS, SIZE, TOKENS, CONTEXT = 4, 3, 4, 8, 3, 8
RECIPES = {
    "fvgen_stage1": FVGenStage1(),
    "fvgen_stage1, simulated": FVGenStage1(student_input="backward_simulation"),
    "fvgen_stage2": FVGenStage2(),
    "fvgen_stage2, simulated": FVGenStage2(student_input="backward_simulation"),
    "fvgen_stage2, discriminator trained": FVGenStage2(discriminator_every=1),
    "dmd2": DMD2(),
    "causvid_regression": CausVidRegression(teacher_steps=4),
    "causvid": CausVid(),
    "avdm2": AVDM2(matching=FrameMatching(frames=2, text_tokens=2)),
    "avdm2, guided": AVDM2(matching=FrameMatching(frames=2, text_tokens=2, guidance_scale=3.0)),
    "avdm2, video score": AVDM2(score="video"),
    "avdm2, gan alone": AVDM2(score="none"),
}
"""Every recipe, and the options that change who is trained."""


def teacher(seed: int = 0) -> VideoUNet:
    torch.manual_seed(seed)
    network = VideoUNet(
        in_channels=CHANNELS + RENDER_CHANNELS,
        out_channels=CHANNELS,
        model_channels=8,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(2,),
        num_head_channels=8,
        context_dim=CONTEXT,
        text_context_length=2,
        image_tokens_per_frame=2,
        temporal_length=FRAMES,
        sample_frames=FRAMES,
        sample_size=(SIZE, SIZE),
        initial_attention_heads=1,
        norm_num_groups=4,
    ).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:  # zero-initialised outputs would hide every difference
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def frame_teacher(conditional: bool = True) -> torch.nn.Module:
    torch.manual_seed(1)
    shape = {
        "sample_size": SIZE,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "block_out_channels": (8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    if not conditional:
        return UNet2DModel(**shape, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    return UNet2DConditionModel(
        **shape,
        cross_attention_dim=CONTEXT,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def discriminator(seed: int = 2) -> ClipDiscriminator:
    torch.manual_seed(seed)
    return ClipDiscriminator((16,), 16, 4)


def roles_for(objective, backbone: str = "full", **changes) -> Roles:
    given = {"teacher": teacher(), "schedule": NoiseSchedule(base_scale=0.7), "adapter_rank": 3}
    if "discriminator" in objective.needs and "discriminator" not in objective.trains:
        given["discriminator"] = discriminator()
    if "frame_teacher" in objective.needs:
        given |= {"frame_teacher": frame_teacher(), "frame_schedule": NoiseSchedule(rescale_to_zero_snr=False)}
    return build_roles(objective, backbone=backbone, **{**given, **changes})


def batch(clips: int = 2, seed: int = 0) -> TrainBatch:
    torch.manual_seed(seed)
    return TrainBatch(
        torch.randn(clips, FRAMES, CHANNELS, SIZE, SIZE),
        Conditions(
            torch.randn(clips, FRAMES, RENDER_CHANNELS, SIZE, SIZE),
            torch.randn(clips, TOKENS, CONTEXT),
            torch.full((clips,), 10),
            torch.randn(clips, TOKENS, CONTEXT),
        ),
    )


def draws(clips: int = 2, step: int = 0) -> BatchRandom:
    """The randomness of an update of so many clips."""
    return BatchRandom((0, step), range(clips))


def part(whole: TrainBatch, clips: slice) -> TrainBatch:
    known = whole.conditions
    return TrainBatch(
        whole.latents[clips],
        Conditions(
            known.render_latents[clips], known.tokens[clips], known.fps[clips], known.unconditional_tokens[clips]
        ),
    )


def perturb(module: torch.nn.Module, seed: int = 5, std: float = 0.05) -> None:
    """Move what is trained away from where it started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += std * torch.randn(parameter.shape, generator=generator)
