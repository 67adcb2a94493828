"""What `FVGenPipeline` refuses to be called with; what fits its networks is the pipeline's to check."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.conditioning.residual import WarpedClips
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


def check_clips(renders: Tensor, photos: Tensor, cameras: Sequence[Cameras], clips: Sequence[int]) -> None:
    """Raise `InputError` unless renders, photos, cameras and numbers are of the same B clips.

    Args:
        renders: must be [B, F, 3, H, W] in [0, 1].
        photos: must lie in [0, 1].
        cameras: must be F of each clip, for images of H x W.
        clips: must be B numbers.
    """
    require(
        renders.ndim == 5 and renders.shape[2] == 3 and renders.numel() > 0,
        "renders",
        "have shape [B, F, 3, H, W]",
        tuple(renders.shape),
        "Stack the RGB renders of each clip.",
    )
    batch, frames, _, height, width = renders.shape
    check_pixels("renders", renders)
    check_pixels("photos", photos)
    require(len(cameras) == batch, "cameras", f"hold {batch} clips", len(cameras), "Give one set per clip.")
    check_cameras(cameras)
    sizes = {(len(c), c.height, c.width) for c in cameras}
    rule = f"be {frames} per clip, for {height}x{width} images"
    require(sizes == {(frames, height, width)}, "cameras", rule, sorted(sizes), "Render with the cameras you pass.")
    require(len(clips) == batch, "clips", f"number {batch} clips", len(clips), "Give one number per clip.")


def check_warps(renders: Tensor, warps: WarpedClips | None, corrects: bool) -> None:
    """Raise `InputError` unless a network that corrects warps has those of the renders' clips, and another has none."""
    rule = "be given to a network that corrects warps, and to no other"
    next_step = "Make them with fvgen.generation.warp.warped_clip."
    require((warps is not None) == corrects, "warps", rule, "none" if warps is None else "some", next_step)
    if warps is not None:
        given, expected = tuple(warps.warp.shape), tuple(renders.shape)
        require(given == expected, "warps", f"have the renders' shape {expected}", given, "Use the same clips.")
        check_pixels("warps", warps.warp)
        check_pixels("warps.confidence", warps.confidence)


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
