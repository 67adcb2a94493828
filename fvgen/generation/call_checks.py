"""What `FVGenPipeline` asks of each value it is called with, by itself; what fits what is the pipeline's to say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.types import Cameras


def check_tensor(name: str, value: Any) -> None:
    """Raise `InputError` unless ``value`` is a torch tensor."""
    require(
        isinstance(value, Tensor), name, "be a torch tensor", type(value).__name__, "Stack the images with torch.stack."
    )


def check_pixels(name: str, images: Tensor) -> None:
    """Raise `InputError` unless every pixel lies in [0, 1]."""
    finite = torch.isfinite(images)
    require(
        bool(finite.all()),
        name,
        "be finite",
        f"{int((~finite).sum())} NaN or infinite values",
        "Look at where they come from.",
    )
    low, high = (float(images.min()), float(images.max())) if images.numel() else (0.0, 0.0)
    require(low >= -1e-3 and high <= 1 + 1e-3, name, "lie in [0, 1]", f"{low:.3g} .. {high:.3g}", "Rescale them.")


def check_cameras(clips: Sequence[Cameras]) -> None:
    """Raise `InputError` unless all are finite cameras with positive focal lengths."""
    for clip in clips:
        require(isinstance(clip, Cameras), "cameras", "be Cameras", type(clip).__name__, "Give one set per clip.")
        finite = torch.isfinite(clip.c2w).all() and torch.isfinite(clip.K).all()
        require(bool(finite), "cameras", "be finite", "NaN or infinite values", "Look at where they come from.")
        lowest = float(clip.K[:, [0, 1], [0, 1]].min()) if len(clip) else 1.0
        require(lowest > 0, "cameras", "have positive focal lengths", lowest, "K holds them in pixels.")


def check_numbers(num_inference_steps: Any, timesteps: Sequence[Any] | None, fps: Any, **optional: Any) -> None:
    """Raise `InputError` unless counts are whole and the rest finite; None stands for a default, save for ``fps``."""
    require(
        num_inference_steps is None or (_is_whole(num_inference_steps) and num_inference_steps >= 1),
        "num_inference_steps",
        "be a whole number, 1 or more",
        repr(num_inference_steps),
        "4 and 50 are usual.",
    )
    wrong = [t for t in (() if timesteps is None else timesteps) if not _is_whole(t)]
    require(not wrong, "timesteps", "be whole numbers", wrong[:4], "Use schedule.timesteps(4), or tolist().")
    require(_is_finite(fps) and fps > 0, "fps", "be a positive number", repr(fps), "10 is ViewCrafter's.")
    for name, value in optional.items():
        usual = "Leave it out for the usual one."
        require(value is None or _is_finite(value), name, "be a finite number", repr(value), usual)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
