"""An image model for AVDM2's row of `tiny_video`: a small diffusion network over single frames of latents."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DModel
from einops import rearrange
from torch.nn import functional

from fvgen.data.shards import ShardDataset
from fvgen.files import whole_folder


def train_frame_teacher(folder: Path, clips: Path, crop: int, updates: int = 400, batch: int = 4) -> None:
    """Train one and store it as a pipeline folder, unless it is there.

    It predicts eps of frames alone, under no condition, as AVDM2's image model does not see the other frames.

    Args:
        folder: to write.
        clips: folder of clips, stored as pixels.
        crop: height and width in pixels of the window that clips are cut to.
        updates: of the network.
        batch: clips of an update; all of their frames are taken.
    """
    if folder.is_dir():
        return
    data = ShardDataset(clips, crop=(crop, crop))
    channels = data.meta["latent_channels"]
    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=crop // data.meta["codec"]["downscale"],
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    schedule = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    for update in range(updates):
        keys = [(update * batch + i) % len(data) for i in range(batch)]
        frames = rearrange(data.batch(keys).latents, "b f c h w -> (b f) c h w")
        t = torch.randint(schedule.config.num_train_timesteps, (len(frames),))
        eps = torch.randn_like(frames)
        loss = functional.mse_loss(network(schedule.add_noise(frames, eps, t), t).sample, eps)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with whole_folder(folder) as unfinished:
        network.save_pretrained(unfinished / "unet")
        schedule.save_pretrained(unfinished / "scheduler")
