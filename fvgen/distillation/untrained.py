"""A pipeline around a network that has learnt nothing: from there a teacher is trained as a student is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fvgen.checks import require
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.export import DISK_FULL
from fvgen.files import disk_errors
from fvgen.models.codec import SpaceToDepth
from fvgen.models.folder import new_folder
from fvgen.models.unet_3d import VideoUNet


def write_untrained(
    folder: Path,
    meta: Mapping[str, Any],
    latents: Sequence[int],
    network: Mapping[str, Any],
    base_scale: float,
    seed: int,
) -> None:
    """Save a new network with the codec, channels and tokens of a training set, whole or not at all.

    Args:
        folder: where to write; an older one there is replaced.
        meta: description of the training set, which is stored as pixels.
        latents: [B, F, C, h, w] shape of its clips.
        network: further settings of `VideoUNet`.
        base_scale: base scale of the noise schedule.
        seed: random seed of the weights.

    Raises:
        InputError: clips stored as latents, which have a teacher already; or the folder cannot be written.
    """
    stored = meta["encoding"]
    require(stored == "pixels", "data", "be stored as pixels", stored, "Prepare clips with --encoding pixels.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = VideoUNet(
            in_channels=meta["latent_channels"] + meta["condition_channels"],
            out_channels=meta["latent_channels"],
            context_dim=meta["context_dim"],
            text_context_length=meta["tokens"],
            image_cross_attention=False,
            sample_frames=latents[1],
            temporal_length=latents[1],
            sample_size=(latents[3], latents[4]),
            dropout=0.0,
            temporal_dropout=0.0,
            **network,
        )
    with disk_errors("output", folder, DISK_FULL), new_folder(folder, "ddim", meta.get("residual")) as writer:
        writer.add("unet", unet)
        writer.add("vae", SpaceToDepth(meta["codec"]["patch_size"]))
        writer.add("schedule", NoiseSchedule(base_scale=base_scale))
