"""Captures of a benchmark: which of them, and how near what was drawn comes to their held-out photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from fvgen.checks import require
from fvgen.data.read_capture import read_capture
from fvgen.metrics import psnr


def chosen_captures(folder: Path, only: Sequence[str]) -> list[str]:
    """Names of the captures to run.

    Raises:
        InputError: there are none, or one has no photos to train on or none held out.
    """
    there = sorted(path.parent.name for path in folder.glob("*/transforms.json"))
    require(
        len(there) > 0, "--captures", "be a folder of captures, each with a transforms.json", folder, "Check the path."
    )
    unknown = sorted(set(only) - set(there))
    require(not unknown, "--only", f"name captures out of {', '.join(there)}", ", ".join(unknown), "Check the names.")
    names = [name for name in there if not only or name in only]
    for name in names:
        files = read_capture(folder / name)
        require(
            len(files.split("test")) > 0,
            f"capture {name}",
            "hold photos back in test_filenames",
            "none",
            "Name some there, or leave the capture out with --only.",
        )
    return names


def mean_psnr(pictures: Tensor, photos: Tensor, where: Tensor) -> float | None:
    """Mean over the frames that have such pixels; [F, 3, H, W] twice and bool [F, 1, H, W]."""
    pairs = zip(pictures, photos, where, strict=True)
    return known_mean([float(psnr(picture, photo, mask)) for picture, photo, mask in pairs if mask.any()])


def sharpness(pictures: Tensor, photos: Tensor) -> float:
    """Gradient energy (mean squared difference of neighbouring pixels) over that of the photos; [F, 3, H, W] twice."""
    drawn, real = (float(x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()) for x in (pictures, photos))
    return drawn / max(real, 1e-12)


def known_mean(values: Sequence[float | None]) -> float | None:
    """Mean of those that are known; None, JSON's null, where none is: a capture may have no holes."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
