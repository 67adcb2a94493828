"""The student on held-out clips while it trains: its error in latents, a picture grid and short films."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor
from torchvision.utils import make_grid

from fvgen.clip import TrainBatch
from fvgen.conditioning.residual import ResidualSpace, warped_clips_of
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.sampling import sample_ddim, sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.averaging import averaged
from fvgen.distillation.batches import ClipSource, held_out_keys
from fvgen.distillation.meters import Log
from fvgen.distillation.parallel import Processes
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import Sampler, TrainConfig
from fvgen.distillation.trainer import autocast
from fvgen.files import store, whole_file
from fvgen.models.codec import load_codec
from fvgen.models.folder import read_settings
from fvgen.pictures import encode_mp4, image_bytes

Decode = Callable[[Tensor, TrainBatch], Tensor]
"""``decode(z, batch)``: images [B, F, 3, H, W] in [0, 1] of latents [B, F, C, h, w] of a batch's clips."""
_NOISE = 0x5EED
"""Sets the previews' noise apart from every step's."""
_FPS = 8


def sample_latents(
    network: Callable[..., Any],
    schedule: NoiseSchedule,
    batch: TrainBatch,
    random: BatchRandom,
    timesteps: Sequence[int],
    sampler: Sampler,
) -> Tensor:
    """z [B, F, C, h, w] as the shipped pipeline samples it, without guidance (DDIM with eta 0)."""
    denoise = conditional_denoiser(network, batch.conditions, schedule)
    x_T = random.randn_like(batch.latents)
    if sampler == "few_step":
        return sample_few_step(denoise, x_T, timesteps, schedule, randn_like=random.randn_like)
    return sample_ddim(denoise, x_T, timesteps, schedule, randn_like=random.randn_like, eta=0.0)


@dataclass
class HeldOutPreview:
    """A `fvgen.distillation.trainer.Preview`: all processes do the same, and the main one writes.

    The error is the mean squared error of sampled against real latents over all held-out clips, in their first view,
    with the same noise every time. Without held-out clips the pictures are of training clips and nothing is measured.
    """

    roles: Roles
    source: ClipSource
    config: TrainConfig
    output: Path
    processes: Processes
    timesteps: Sequence[int]
    """Timesteps of the sampler, largest first."""
    log: Log | None = None
    sampler: Sampler = "few_step"
    decode: Decode | None = None
    pictures: int = 2
    """Number of clips that are shown."""

    @torch.no_grad()
    def __call__(self, step: int, ema: Mapping[str, Tensor]) -> dict[str, float]:
        """Sample, write ``samples/step-NNNNNNNN.png`` and .mp4; ``error``, and with a decoder ``psnr`` in decibels."""
        held_out = held_out_keys(self.source, self.config.held_out)
        shown = held_out[: self.pictures] or list(range(min(self.pictures, len(self.source))))
        errors, pixel_errors, pairs = [], [], []
        with averaged(self.roles.trainable()["student"], ema):
            for key in held_out or shown:
                batch, z = self._sample(key)
                errors.append(float((z - batch.latents).square().mean()))
                if self.decode is not None and self.processes.main:
                    real, generated = self.decode(batch.latents, batch).cpu(), self.decode(z, batch).cpu()
                    pixel_errors.append(float((generated - real).square().mean()))
                    pairs += [torch.cat([real, generated])] if key in shown else []
        if self.log is not None and pairs:
            self._draw(step, pairs, self.log)
        figures = {"error": errors, "psnr": pixel_errors} if held_out else {}
        means = {name: sum(values) / len(values) for name, values in figures.items() if values}
        return means | ({"psnr": -10 * math.log10(max(means["psnr"], 1e-10))} if "psnr" in means else {})

    def _sample(self, key: int) -> tuple[TrainBatch, Tensor]:
        batch = self.source.batch([key]).to(self.processes.device)
        random = BatchRandom((self.config.seed, _NOISE), [key])
        with autocast(self.config, self.processes):
            z = sample_latents(self.roles.student, self.roles.schedule, batch, random, self.timesteps, self.sampler)
        return batch, z.float()

    def _draw(self, step: int, pairs: Sequence[Tensor], log: Log) -> None:
        """``pairs``: real and generated clip [2, F, 3, H, W] each."""
        path = self.output / "samples" / f"step-{step:08d}"
        grid = picture_grid(torch.cat(list(pairs)))
        film = torch.cat([torch.cat(list(pair), dim=-1) for pair in pairs])
        try:
            with whole_file(path.with_suffix(".png")) as unfinished:
                Image.fromarray(image_bytes(grid)).save(unfinished, "png")
            log.picture(step, grid)
            if self.config.meters.video:
                store(path.with_suffix(".mp4"), encode_mp4(film, _FPS))
        except OSError as error:  # a full disk; weights are worth more than pictures
            warnings.warn(f"step {step}: samples not written, {error}", stacklevel=2)


def decoder(teacher: Path) -> Decode:
    """Decodes latents with the codec of a pipeline folder, by its residual space where it has one."""
    codec: Any = load_codec(teacher)
    residual = read_settings(teacher).get("residual")
    if residual is None:
        return lambda z, batch: codec.decode(z)
    space = ResidualSpace(**residual)

    def decode(z: Tensor, batch: TrainBatch) -> Tensor:
        return space.decode(z.cpu(), warped_clips_of(batch.conditions.render_latents.cpu(), space, codec), codec)

    return decode


def picture_grid(clips: Tensor, columns: int = 8) -> Tensor:
    """[3, N·H, columns·W] of clips [N, F, 3, H, W]: a row each, frames evenly spread over the columns."""
    frames = torch.linspace(0, clips.shape[1] - 1, min(columns, clips.shape[1])).round().long()
    return (
        make_grid(rearrange(clips[:, frames], "n f c h w -> (n f) c h w"), nrow=len(frames), padding=0)
        .float()
        .clamp(0, 1)
    )
