"""Do colours drift where the second stage follows a guided teacher? A tiny one, trained with dropped tokens.

    python benchmarks/guided_teacher.py --output benchmarks/results/guided_teacher_cpu.json

Clips are waves that move over a colour. The render shows the waves in grey, the tokens alone tell the colour, and the
teacher learns without them, too, so that guidance pulls at colours and at nothing else. The student goes through both
stages, the second with the paper's guidance. `colour_drift` is the largest shift of a channel's mean from the data's,
in the data's deviations: mean over the last tenth of a run's records, and its course.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import json
import tempfile
import time
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
from fvgen.diffusion.sampling import sample_ddim
from fvgen.distillation.health import clip_statistics, compared_with_data
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import MeterConfig, OptimizerConfig, TrainConfig, identity

FRAMES, CHANNELS, SIZE, TOKENS, CONTEXT, COLOURS = 4, 3, 8, 3, 8, 16


@dataclass(frozen=True)
class Options:
    """Train a guided teacher and a student of it."""

    output: Path
    """JSON file to write."""
    teacher_steps: int = 1200
    """Updates of the teacher."""
    stage1_steps: int = 60
    """Updates of the student against the discriminator alone."""
    stage2_steps: int = 400
    """Updates of the student by distribution matching."""
    unconditional_share: float = 0.15
    """Share of clips that the teacher sees without tokens."""
    guidance_scale: float = 7.5
    """Guidance scale of the teacher in the second stage."""
    guidance_rescale: float = 0.7
    """Rescale of the teacher's guidance."""
    batch: int = 8
    """Clips in each update."""


class TintedWaves:
    """A `ClipSource`: waves over a colour that the tokens name."""

    meta = {"latent_channels": CHANNELS}  # noqa: RUF012
    config_hash = "tinted waves"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._colours = torch.rand(COLOURS, CHANNELS, generator=generator) * 2 - 1
        self._tokens = torch.randn(COLOURS, TOKENS, CONTEXT, generator=generator)

    def __len__(self) -> int:
        return 16 * COLOURS

    def batch(self, keys: list[int]) -> TrainBatch:
        """Clips by number: each has one of the colours and one of 16 phases."""
        phase = torch.tensor([key // COLOURS / 16 for key in keys])[:, None, None, None, None]
        x = torch.arange(SIZE) / SIZE + torch.arange(FRAMES)[:, None, None, None] / 8
        waves = 0.5 * torch.sin(6.2832 * (x + phase)).expand(-1, -1, CHANNELS, SIZE, SIZE)
        colour = torch.tensor([key % COLOURS for key in keys])
        clips = waves + self._colours[colour][:, None, :, None, None]
        tokens = self._tokens[colour]
        known = Conditions(waves.clone(), tokens, torch.full((len(keys),), 10), torch.zeros_like(tokens))
        return TrainBatch(clips, known)


def main(options: Options) -> None:
    """Train teacher and student, measure, write the JSON."""
    start, data = time.process_time(), TintedWaves()
    torch.manual_seed(0)
    teacher, schedule = _network(), fvgen.NoiseSchedule()
    matching = DistributionMatching(guidance_scale=options.guidance_scale, guidance_rescale=options.guidance_rescale)
    one = FVGenStage1(student_input="backward_simulation", critic_steps=2)
    two = FVGenStage2(student_input="backward_simulation", critic_steps=2, discriminator_every=2, matching=matching)
    learnt = Diffusion(unconditional_share=options.unconditional_share)
    _train(Roles(schedule, teacher), learnt, data, options.teacher_steps, 2e-3, options.batch)
    found: dict[str, Any] = {
        f"teacher, guidance {scale:g}": _teachers_drift(teacher, schedule, data, scale, options.guidance_rescale)
        for scale in (1.0, options.guidance_scale)
    }
    first = fvgen.build_roles(one, teacher, schedule)
    found["stage 1"] = _drift(_train(first, one, data, options.stage1_steps, 1e-4, options.batch))
    second = fvgen.build_roles(two, teacher, schedule, student=first.student, discriminator=first.discriminator)
    log = _train(second, two, data, options.stage2_steps, 1e-4, options.batch)
    found["stage 2"] = _drift(log)
    course = [(line["step"], line["student/colour_drift"]) for line in log]
    write_json(
        options.output,
        {
            "colour_drift": found,
            "course_of_stage_2": course,
            "cpu_seconds": time.process_time() - start,
            "settings": settings_of(options),
        },
    )
    print("\n".join(f"{name}: {value:.3f}" for name, value in found.items()))


def _network() -> fvgen.VideoUNet:
    widths = {"model_channels": 16, "channel_mult": (1, 2), "attention_resolutions": (1, 2), "num_head_channels": 8}
    others = {"norm_num_groups": 4, "context_dim": CONTEXT, "text_context_length": TOKENS}
    return fvgen.VideoUNet(2 * CHANNELS, CHANNELS, image_cross_attention=False, **widths, **others)


def _train(
    roles: Roles, objective: Objective, data: TintedWaves, steps: int, lr: float, batch: int
) -> list[dict[str, Any]]:
    """The records of a run, ten updates apart."""
    rate = OptimizerConfig(lr=lr, warmup_steps=20)
    meters = MeterConfig(log_every=10, samples_every=0, tensorboard=False)
    config = TrainConfig(
        steps=steps, global_batch=batch, micro_batch=batch, precision="fp32", gradient_checkpointing=False,
        student=rate, critic=rate, meters=meters,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        fvgen.train(config, data, roles, objective, output=Path(folder), settings=identity(config))
        lines = (Path(folder) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _drift(log: list[dict[str, Any]]) -> float:
    last = [line["student/colour_drift"] for line in log[-max(1, len(log) // 10) :]]
    return sum(last) / len(last)


@torch.no_grad()
def _teachers_drift(teacher: Any, schedule: Any, data: TintedWaves, scale: float, rescale: float) -> float:
    """The drift of what the teacher draws in 25 steps under guidance."""
    clips = data.batch(list(range(0, len(data), 4)))
    denoise = conditional_denoiser(
        teacher, clips.conditions, schedule, guidance_scale=scale, guidance_rescale=rescale if scale != 1 else 0.0
    )
    noise: Tensor = torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(1))
    drawn = sample_ddim(denoise, noise, schedule.timesteps(25), schedule, randn_like=torch.randn_like, eta=0.0)
    return compared_with_data(clip_statistics(drawn), clip_statistics(clips.latents))["colour_drift"]


if __name__ == "__main__":
    main(tyro.cli(Options))
