"""Do colours drift where the second stage follows a guided teacher? A tiny one, trained with dropped tokens.

    python benchmarks/guided_teacher.py --output benchmarks/results/guided_teacher_cpu.json

Clips are waves that move over a colour, which the tokens name. The render shows the waves, and the colour in its
covered part alone: with none, guidance pulls at colours and at nothing else. The teacher learns without tokens, too.
The student goes through the paper's two stages on noised real input, the second with the paper's guidance. What its
sampler draws is compared with the true clips along the second stage, and so is what the teacher draws in 25 steps.

What results/guided_teacher_cpu.json shows (nothing covered, one seed): colours drift until some 200 updates, then stand
still. The slope of drawn on true colours goes from 1.04 to 1.61, 1.99, 2.07 and 2.04 after 100 to 400 updates; that of
the guided teacher's own clips is 1.49. The likely cause: at high noise nothing tells the colour yet, and there the
guided prediction, which distribution matching follows at all noise levels alike, lies beyond any clip. That file was
written before there were several scales; its second stage has 7.5.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from reporting import settings_of, write_json
from torch import Tensor

import fvgen
from fvgen.clip import Conditions, TrainBatch
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.distillation.health import clip_statistics, compared_with_data
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import MeterConfig, OptimizerConfig, TrainConfig, identity

FRAMES, CHANNELS, SIZE, TOKENS, CONTEXT, COLOURS = 4, 3, 8, 3, 8, 16
MEASURED = 2 * COLOURS
"""Clips that are drawn to measure: two of each colour."""


@dataclass(frozen=True)
class Options:
    """Train a guided teacher and a student of it."""

    output: Path
    """JSON file to write."""
    teacher_steps: int = 1200
    """Updates of the teacher."""
    teacher_lr: float = 2e-3
    """Learning rate of the teacher."""
    stage1_steps: int = 60
    """Updates of the student against the discriminator alone."""
    stage2_steps: int = 400
    """Updates of the student by distribution matching."""
    every: int = 100
    """Updates of the second stage between two measurements."""
    critic_steps: int = 2
    """Updates of the critics for each update of the student."""
    lr: float = 1e-4
    """Learning rate of student and critics."""
    unconditional_share: float = 0.15
    """Share of clips that the teacher sees without tokens."""
    guidance_scales: tuple[float, ...] = (1.0, 7.5)
    """Guidance scales of the teacher, each with a second stage of its own. 1 is none, 7.5 the paper's."""
    guidance_rescale: float = 0.7
    """Rescale of the teacher's guidance."""
    covered: float = 0.0
    """Share of a frame's columns whose render shows the colour, as points that cover them would."""
    batch: int = 8
    """Number of clips in each update."""


class TintedWaves:
    """A `ClipSource`: waves over a colour that the tokens name, and the first columns of the render show."""

    meta = {"latent_channels": CHANNELS}  # noqa: RUF012
    config_hash = "tinted waves"

    def __init__(self, covered: float) -> None:
        self._covered = (torch.arange(SIZE) < round(covered * SIZE)).float()
        generator = torch.Generator().manual_seed(0)
        self._colours = torch.rand(COLOURS, CHANNELS, generator=generator) * 2 - 1
        self._tokens = torch.randn(COLOURS, TOKENS, CONTEXT, generator=generator)

    def __len__(self) -> int:
        return 16 * COLOURS

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        """Clips by number: each has one of the colours and one of 16 phases."""
        phase = torch.tensor([key // COLOURS / 16 for key in keys])[:, None, None, None, None]
        x = torch.arange(SIZE) / SIZE + torch.arange(FRAMES)[:, None, None, None] / 8
        waves = 0.5 * torch.sin(6.2832 * (x + phase)).expand(-1, -1, CHANNELS, SIZE, SIZE)
        which = torch.tensor([key % COLOURS for key in keys])
        tokens, colours = self._tokens[which], self._colours[which][:, None, :, None, None]
        render = waves + colours * self._covered
        known = Conditions(render, tokens, torch.full((len(keys),), 10), torch.zeros_like(tokens))
        return TrainBatch(waves + colours, known)


def main(options: Options) -> None:
    """Train teacher and student, measure, write the JSON."""
    started, schedule = time.process_time(), fvgen.NoiseSchedule()
    data = TintedWaves(options.covered)
    torch.manual_seed(0)
    teacher = _network()
    learnt = Diffusion(unconditional_share=options.unconditional_share)
    _train(Roles(schedule, teacher), learnt, data, options, options.teacher_steps, options.teacher_lr)
    found = {
        f"teacher in 25 steps, guidance {scale:g}": _of_teacher(
            teacher, schedule, data, scale, options.guidance_rescale
        )
        for scale in options.guidance_scales
    }
    one = FVGenStage1(critic_steps=options.critic_steps)
    first = fvgen.build_roles(one, teacher, schedule)
    _train(first, one, data, options, options.stage1_steps, options.lr)
    for scale in options.guidance_scales:
        matching = DistributionMatching(guidance_scale=scale, guidance_rescale=options.guidance_rescale)
        two = FVGenStage2(critic_steps=options.critic_steps, matching=matching)
        second = fvgen.build_roles(two, teacher, schedule, student=first.student, discriminator=first.discriminator)

        def note(step: int, roles: Roles = second, recipe: FVGenStage2 = two) -> dict[str, float]:
            name = f"student, guidance {recipe.matching.guidance_scale:g}, {step} updates of stage 2"
            return found.setdefault(name, _of_student(roles, recipe, data))

        note(0)
        _train(second, two, data, options, options.stage2_steps, options.lr, note)
    seconds = time.process_time() - started
    write_json(options.output, {"rows": found, "cpu_seconds": seconds, "settings": settings_of(options)})
    for name, figures in found.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))


def _network() -> fvgen.VideoUNet:
    widths = {"model_channels": 16, "channel_mult": (1, 2), "attention_resolutions": (2,), "num_head_channels": 8}
    others = {"norm_num_groups": 4, "context_dim": CONTEXT, "text_context_length": TOKENS, "num_res_blocks": 1}
    return fvgen.VideoUNet(
        2 * CHANNELS, CHANNELS, image_cross_attention=False, initial_attention_heads=1, **widths, **others
    )


def _train(
    roles: Roles,
    objective: Objective,
    data: TintedWaves,
    options: Options,
    steps: int,
    lr: float,
    note: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Train, calling ``note`` with the number of updates after every `Options.every` of them."""
    rate = OptimizerConfig(lr=lr, warmup_steps=20)
    meters = MeterConfig(log_every=10, samples_every=options.every, tensorboard=False)
    config = TrainConfig(
        steps=steps, global_batch=options.batch, micro_batch=options.batch, precision="fp32",
        gradient_checkpointing=False, student=rate, critic=rate, meters=meters,
    )  # fmt: skip
    preview = None if note is None else lambda _: lambda step, _: note(step)
    with tempfile.TemporaryDirectory() as folder:
        fvgen.train(config, data, roles, objective, output=Path(folder), settings=identity(config), preview=preview)


@torch.no_grad()
def _of_student(roles: Roles, objective: FVGenStage2, data: TintedWaves) -> dict[str, float]:
    clips, noise, randn_like = _measured(data)
    denoise = conditional_denoiser(roles.student, clips.conditions, roles.schedule)
    drawn = fvgen.sample_few_step(denoise, noise, objective.timesteps, roles.schedule, randn_like=randn_like)
    return colours(drawn, clips.latents)


@torch.no_grad()
def _of_teacher(
    teacher: Any, schedule: fvgen.NoiseSchedule, data: TintedWaves, scale: float, rescale: float
) -> dict[str, float]:
    clips, noise, randn_like = _measured(data)
    denoise = conditional_denoiser(teacher, clips.conditions, schedule, guidance_scale=scale, guidance_rescale=rescale)
    drawn = fvgen.sample_ddim(denoise, noise, schedule.timesteps(25), schedule, randn_like=randn_like, eta=0.0)
    return colours(drawn, clips.latents)


def _measured(data: TintedWaves) -> tuple[TrainBatch, Tensor, Callable[[Tensor], Tensor]]:
    """Clips of all colours, the noise that their twins are drawn from, and more of it: the same in every call."""
    generator = torch.Generator().manual_seed(1)

    def randn_like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator)

    clips = data.batch(range(MEASURED))
    return clips, randn_like(clips.latents), randn_like


def colours(drawn: Tensor, true: Tensor) -> dict[str, float]:
    """How the colours of drawn clips [B, F, C, h, w] compare with those of the true ones.

    ``colour_drift`` is the trainer's meter: the largest shift of a channel's mean over all clips, in the data's
    deviations. ``colour_error`` is the mean distance of a clip's mean colour from its true one, in deviations of the
    true colours. ``saturation`` is the slope of drawn on true colours: above 1 they are too strong, below too faint.
    """
    mean, right = (clips.mean((1, 3, 4)) for clips in (drawn, true))  # [B, C]
    centred = right - right.mean(0)
    return {
        "colour_drift": compared_with_data(clip_statistics(drawn), clip_statistics(true))["colour_drift"],
        "colour_error": float((mean - right).abs().mean() / centred.std()),
        "saturation": float((centred * (mean - mean.mean(0))).sum() / centred.square().sum()),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
