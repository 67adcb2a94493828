"""What an objective draws: the student's clips, noise levels, noised clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.sampling import sample_few_step
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule

StudentInput = Literal["noised_real", "backward_simulation"]
Range = tuple[float, float]
"""Noise levels from .. to, as shares of the schedule's T."""

STUDENT_TIMESTEPS = (999, 749, 499, 249)
"""FVGen's four."""


def check_range(name: str, t_range: Range) -> None:
    """Raise `InputError` unless 0 <= low <= high <= 1."""
    require(0 <= t_range[0] <= t_range[1] <= 1, name, "satisfy 0 <= low <= high <= 1", t_range, "Give shares of T.")


def draw_clips(
    roles: Roles, batch: TrainBatch, random: BatchRandom, timesteps: Sequence[int], student_input: StudentInput
) -> Tensor:
    """The student's clips z [B, F, C, h, w], with a gradient through one call of the student.

    Args:
        roles: the student's network and schedule.
        batch: real clips and their conditions.
        random: of the batch.
        timesteps: the student's, largest first.
        student_input: ``noised_real``: real clips noised to one of the timesteps each (FVGen, algorithm 1).
            ``backward_simulation``: noise, through the sampler that ships, up to a step that all clips share: what the
            student will meet when it is used (DMD2, arXiv 2405.14867, section 4.5).
    """
    schedule = roles.schedule
    denoise = conditional_denoiser(roles.student, batch.conditions, schedule)
    if student_input == "backward_simulation":
        return sample_few_step(
            denoise,
            random.randn_like(batch.latents),
            timesteps,
            schedule,
            randn_like=random.randn_like,
            grad_step=random.shared_randint(0, len(timesteps)),
        )
    t = torch.tensor(timesteps)[random.randint(0, len(timesteps))].to(batch.latents.device)
    x_t = noised(schedule, batch.latents, random.randn_like(batch.latents), t)
    return schedule.unscale_latents(denoise(x_t, t), t)


def draw_timesteps(random: BatchRandom, schedule: NoiseSchedule, t_range: Range, like: Tensor, *shape: int) -> Tensor:
    """Noise levels [B, *shape], int64, uniform over a part of the schedule, on the device of ``like``."""
    last = schedule.num_train_timesteps - 1
    low, high = (round(share * last) for share in t_range)
    return random.randint(low, high + 1, *shape).to(like.device)


def noised(schedule: NoiseSchedule, z: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t [B, ...] of clean latents z [B, ...] at timesteps t [B]."""
    return schedule.add_noise(schedule.scale_latents(z, t), eps, t)
