"""How many frames a network draws at once, where that is not free."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.models.folder import component_classes, read_settings
from fvgen.types import CameraPath

_WHY = (
    "Its image tokens are laid out by frames: with another number they are shared out among the frames otherwise than "
    "it was trained with. Draw clips of its length and leave out the frames that are not needed."
)


def fixed_frames(trained: int, image_tokens: bool) -> int | None:
    """Frames of every clip of a network that was trained on so many; None where any number goes."""
    return trained if image_tokens else None


def fixed_frames_of(folder: Path) -> int | None:
    """The same of a pipeline folder; no weights are read.

    Raises:
        InputError: it is no pipeline folder.
    """
    index = read_settings(folder)
    trained = index.get("frames") or read_settings(folder, "unet/config.json")["sample_frames"]
    return fixed_frames(trained, "image_projector" in component_classes(index))


def check_frames(frames: int, fixed: int | None) -> None:
    """Refuse a clip of another number of frames than its network must have.

    Raises:
        InputError: with the reason.
    """
    require(fixed is None or frames == fixed, "a clip", f"have the {fixed} frames the network knows", frames, _WHY)


def check_fixed_clips(path: CameraPath, fixed: int | None) -> None:
    """Refuse a path with clips of another length, or without a photo at both ends.

    Raises:
        InputError: with the reason.
    """
    from fvgen.geometry.trajectory import clips_of  # wants SciPy, which a machine that only runs networks may lack

    for clip in clips_of(path) if fixed is not None else ():
        check_frames(len(clip), fixed)
        ends = path.photo[clip[[0, -1]]]
        rule = "have a photo at both ends for this network"
        require(bool((ends >= 0).all()), "a clip", rule, ends.tolist(), "Use the path between.")


def thinned(path: CameraPath, like: CameraPath) -> list[Tensor]:
    """Which frames of a path through the same photos stand for those of another one.

    Args:
        path: with as many frames a clip as a network draws.
        like: with as many as are wanted.

    Returns: for each clip of ``path``, frame indices [L], photos at both ends: as many as the clip of ``like`` has,
        evenly spread, or all where it has more.
    """
    from fvgen.geometry.trajectory import clips_of  # wants SciPy, which a machine that only runs networks may lack

    kept = []
    for drawn, wanted in zip(clips_of(path), clips_of(like), strict=True):
        count = min(len(wanted), len(drawn))
        kept.append(drawn[torch.linspace(0, len(drawn) - 1, count).round().long()])
    return kept
