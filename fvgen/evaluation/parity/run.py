"""Every vector file of a folder through the check for its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from fvgen.checks import require
from fvgen.evaluation.parity import diffusion, geometry, networks
from fvgen.evaluation.parity.vectors import Comparison, Comparisons, VectorFile

CHECKS: dict[str, Callable[[VectorFile], Comparisons]] = {
    "unet": networks.check_unet,
    "resampler": networks.check_resampler,
    "vae": networks.check_vae,
    "openclip": networks.check_openclip,
    "clip_preprocess": networks.check_clip_preprocess,
    "schedule": diffusion.check_schedule,
    "diffusion_math": diffusion.check_diffusion_math,
    "ddim": diffusion.check_ddim,
    "traj_interp": geometry.check_interpolation,
    "traj_focus_slerp": geometry.check_focus_path,
    "traj_single": geometry.check_single_view,
    "render": geometry.check_render,
}
"""What a file checks, by how its name begins."""


@dataclass(frozen=True)
class FileReport:
    """What came of one file."""

    name: str
    comparisons: tuple[Comparison, ...]
    failure: str = ""
    """Why it could not be run to the end, or what of it was not compared; empty when all was."""

    @property
    def passed(self) -> bool:
        """Everything in the file was compared, and all of it within tolerance."""
        return not self.failure and bool(self.comparisons) and all(c.passed for c in self.comparisons)

    @property
    def worst(self) -> Comparison | None:
        """The comparison nearest to its tolerance, or furthest beyond it."""
        return max(
            self.comparisons, key=lambda c: c.share if c.tolerance else (0 if c.passed else float("inf")), default=None
        )


def kind_of(name: str) -> str | None:
    """The kind of a file by its name: the longest key of `CHECKS` that it begins with, as whole words."""
    fitting = [kind for kind in CHECKS if name == kind or name.startswith(f"{kind}_")]
    return max(fitting, key=len, default=None)


@torch.no_grad()
def check_file(path: Path) -> FileReport:
    """Run one vector file; never raises, for a failure is a result here."""
    kind = kind_of(path.stem)
    if kind is None:
        return FileReport(path.name, (), f"is of a kind that cannot be run (known: {', '.join(CHECKS)})")
    done: list[Comparison] = []
    try:
        vector = VectorFile.load(path)
        done.extend(CHECKS[kind](vector))
    except Exception as error:  # a check meets files nobody here has seen: whatever goes wrong is that file's failure
        return FileReport(path.name, tuple(done), f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    left = vector.unused()
    return FileReport(path.name, tuple(done), f"holds references that were not compared: {left[:5]}" if left else "")


def check_folder(folder: Path) -> Iterable[FileReport]:
    """Every ``.safetensors`` file in and below ``folder``, in alphabetical order, then what cannot be one: settings
    whose tensors are missing, and tensors in other formats.

    Raises:
        InputError: when the folder holds none.
    """
    files = sorted(folder.rglob("*.safetensors")) if folder.is_dir() else []
    require(bool(files), "FOLDER", "hold .safetensors files", folder, "Name the folder with the reference vectors.")
    others = [file for file in sorted(folder.rglob("*")) if file.suffix in (".npz", ".npy", ".pt", ".pth", ".ckpt")]
    lonely = [
        file
        for file in sorted(folder.rglob("*.json"))
        if kind_of(file.stem) is not None and not file.with_suffix(".safetensors").exists()
    ]
    reports = [FileReport(file.name, (), "is no .safetensors file and cannot be run") for file in others]
    reports += [FileReport(file.name, (), "has no .safetensors file of its name beside it") for file in lonely]
    return chain((check_file(file) for file in files), reports)
