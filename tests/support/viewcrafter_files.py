"""Tiny ViewCrafter checkpoints in the real layouts."""

from __future__ import annotations

from pathlib import Path

import torch

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.viewcrafter_checkpoint import checkpoint_shapes
from fvgen.models.convert_vae import vae_config
from fvgen.models.convert_viewcrafter import Architecture

TINY = Architecture(
    unet={
        "model_channels": 32,
        "channel_mult": (1, 2),
        "num_res_blocks": 1,
        "attention_resolutions": (2,),
        "num_head_channels": 16,
        "context_dim": 24,
    },
    vae=vae_config(
        {"z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2]}
        | {"num_res_blocks": 1, "attn_resolutions": []},
        embed_dim=4,
    ),
    text={"vocab_size": 64, "width": 24, "heads": 2, "layers": 3},
    vision={"image_size": 28, "patch_size": 14, "width": 32, "head_width": 16, "layers": 2},
    clip_dim=24,
    projector={"dim": 24, "depth": 1, "heads": 2, "dim_head": 12, "embedding_dim": 32, "output_dim": 24}
    | {"num_queries": 2, "video_length": 3},
)
"""ViewCrafter's networks with a few channels, every kind of tensor of a release among their weights."""


def random_tensors() -> dict[str, torch.Tensor]:
    """Random tensors under the real names, with the 320x512 release's schedule."""
    g = torch.Generator().manual_seed(0)
    made = {name: torch.randn(shape, generator=g) for name, shape in checkpoint_shapes(TINY).items()}
    tables = NoiseSchedule(base_scale=0.7).tables()
    return {name: tables.get(name, tensor) for name, tensor in made.items()}


def write(path: Path, tensors: dict[str, torch.Tensor], layout: str = "lightning", **more: object) -> Path:
    """A checkpoint of these tensors in one of the layouts that releases have."""
    if layout == "deepspeed":
        content = {"module": {f"_forward_module.{name}": tensor for name, tensor in tensors.items()}}
    else:
        content = {"state_dict": tensors}
    torch.save(content | more, path)
    return path
