"""Samplers: free functions with one signature. Randomness and the network are arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from fvgen.checks import require

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule

Denoise = Callable[[Tensor, Tensor], Tensor]
"""``denoise(x_t [B, ...], t [B] int64) -> x0 [B, ...]``, x0 as it stands at t (see `NoiseSchedule`)."""
RandnLike = Callable[[Tensor], Tensor]
"""``randn_like(x)``: standard normal noise of x's shape, dtype and device."""
StepCallback = Callable[[int, int, Tensor], "Tensor | None"]
"""``callback(step, t, x)`` after each step with the x that goes on; a returned tensor takes its place."""


def check_timesteps(timesteps: Sequence[int], schedule: NoiseSchedule) -> None:
    """Raise `InputError` unless there are timesteps of the schedule, largest first."""
    require(len(timesteps) > 0, "timesteps", "hold at least one", list(timesteps), "Use schedule.timesteps(4).")
    schedule.check_timesteps(timesteps)
    require(
        all(a >= b for a, b in pairwise(timesteps)),
        "timesteps",
        "run from noise to clean",
        list(timesteps)[:8],
        "Sort them, largest first.",
    )


def _batch(t: int, x: Tensor) -> Tensor:
    return torch.full((len(x),), t, dtype=torch.int64, device=x.device)


def sample_few_step(
    denoise: Denoise,
    x_T: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    *,
    randn_like: RandnLike,
    grad_step: int | None = None,
    renoise: Literal["fresh", "predicted"] = "fresh",
    callback: StepCallback | None = None,
) -> Tensor:
    """Clean latents z [B, ...] in ``len(timesteps)`` network calls: predict x0, noise it to the next timestep, repeat.

    Args:
        denoise: the student.
        x_T: [B, ...] noise at ``timesteps[0]``.
        timesteps: largest first, such as ``[999, 749, 499, 249]``.
        schedule: the schedule the student was trained with.
        randn_like: source of the fresh noise, called once between two steps.
        grad_step: run only up to this step, with gradients through its network call alone, and return its z
            ("backward simulation" of DMD2, arXiv 2405.14867, section 4.5). None runs all steps as the
            caller's gradient mode asks.
        renoise: noise the estimate with fresh noise, or with the noise predicted along with it.
        callback: called after each step.

    Raises:
        InputError: for timesteps out of range or order.
    """
    check_timesteps(timesteps, schedule)
    last = len(timesteps) - 1 if grad_step is None else grad_step
    require(
        0 <= last < len(timesteps),
        "grad_step",
        f"lie in 0 .. {len(timesteps) - 1}",
        grad_step,
        "Draw one of the steps.",
    )
    x = x_T
    for step, t in enumerate(timesteps[: last + 1]):
        with torch.no_grad() if grad_step is not None and step < last else nullcontext():
            x0 = denoise(x, _batch(t, x))
            if step == last:
                x = schedule.unscale_latents(x0, t)
            else:
                to = timesteps[step + 1]
                eps = randn_like(x) if renoise == "fresh" else schedule.to_eps(x0, x, t, kind="x0")
                x = schedule.add_noise(schedule.move_x0(x0, t, to), eps, to)
        if callback is not None and (replaced := callback(step, t, x)) is not None:
            x = replaced
    return x


def sample_ddim(
    denoise: Denoise,
    x_T: Tensor,
    timesteps: Sequence[int],
    schedule: NoiseSchedule,
    *,
    randn_like: RandnLike,
    eta: float = 1.0,
    callback: StepCallback | None = None,
) -> Tensor:
    """Latents [B, ...] by DDIM, step for step as ViewCrafter samples: the last step ends at timestep 0, not at z.

    Args:
        denoise: the teacher, guidance included.
        x_T: [B, ...] noise at ``timesteps[0]``.
        timesteps: largest first, from `NoiseSchedule.timesteps`.
        schedule: the schedule the teacher was trained with.
        randn_like: source of the noise that each step adds when ``eta`` > 0; called once per step.
        eta: 0 deterministic, 1 ancestral.
        callback: called after each step.

    Raises:
        InputError: for timesteps out of range or order, or eta outside [0, 1].
    """
    check_timesteps(timesteps, schedule)
    require(0 <= eta <= 1, "eta", "lie in [0, 1]", eta, "0 is deterministic, 1 is ViewCrafter's.")
    x = x_T
    for step, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], 0], strict=True)):
        x0 = denoise(x, _batch(t, x))
        eps = schedule.to_eps(x0, x, t, kind="x0")
        noise = randn_like(x) if eta > 0 else None
        x = schedule.ddim_step(x0, eps, t, t_prev, eta, noise)
        if callback is not None and (replaced := callback(step, t, x)) is not None:
            x = replaced
    return x
