"""``fvgen export``: a trained splat as a file for web viewers, upright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from rich.console import Console
from torch import Tensor

from fvgen.checks import require
from fvgen.command import run as run_command
from fvgen.files import disk_errors
from fvgen.splats.ply import write_splat
from fvgen.splats.upright import BACKGROUND_DISTANCE, drawable, turned_cameras, upright_rotation, vertical_of, within
from fvgen.splats.web import FORMATS, convert_splat
from fvgen_ns.splat.trained import TrainedSplat, read_trained_splat

_MEAN_UP = (0.0, 0.0, 1.0)
"""The mean of the photos' up in the run's frame."""
_NEEDS_CAPTURE = "Name its new place in the line 'data:' of the run's config.yml."


@dataclass
class ExportSplat:
    """Write a trained splat as one file, turned upright: a PLY, an spz, a sog, or a page that opens in any browser."""

    run: tyro.conf.Positional[Path]
    """Run: its folder, or the config.yml in it."""
    output: Path = field(kw_only=True)
    """File to write. Its name ends in .ply, .spz, .sog (without harmonics) or .html."""
    up: tuple[float, float, float] | None = None
    """Direction in the run's frame that becomes up. By default it is what is up in photos that were held level."""
    background: bool = True
    """Keep the far shell behind the scene. --no-background leaves it out."""
    crop: float | None = None
    """Radius around what the photos look at, in mean distances of the cameras from there. What lies outside is left
    out."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run_command(ExportSplat, export_splat, arguments, program)


def export_splat(options: ExportSplat, *, quiet: bool = False) -> None:
    """Read, choose, turn, write.

    Args:
        options: what to write.
        quiet: print nothing.

    Raises:
        InputError: the run or an option cannot be used, nothing would be left, the file cannot be written, or the
            program for its format is not on this machine: then the PLY is there, and the text says how to go on.
    """
    suffixes = (".ply", *FORMATS)
    output = options.output
    require(output.suffix in suffixes, "--output", f"end in {', '.join(suffixes)}", output, "Choose one of them.")
    require(options.crop is None or options.crop > 0, "--crop", "be positive", options.crop, "2 is a narrow crop.")
    named = None if options.up is None else upright_rotation(torch.tensor(options.up))
    console = Console(quiet=quiet)
    trained = read_trained_splat(options.run)
    rotation = upright_rotation(_up(trained)) if named is None else named
    chosen, notes = _chosen(trained, options)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    splat = trained.gaussians[chosen].turned(rotation)
    ply = output.with_suffix(".ply")
    with disk_errors("--output", output, "Free some space or choose another folder."):
        write_splat(ply, splat)
        if output.suffix != ".ply":
            start = None if trained.cameras is None else turned_cameras(trained.cameras[0], rotation)
            convert_splat(ply, output, start)
    size = output.stat().st_size / 1e6
    written = f"{len(splat)} of {len(trained.gaussians)} Gaussians in {output} ({size:.1f} MB)"
    console.print(written, soft_wrap=True, markup=False)


def _up(trained: TrainedSplat) -> Tensor:
    """[3] up in the run's frame."""
    return torch.tensor(_MEAN_UP) if trained.cameras is None else vertical_of(trained.cameras)


def _chosen(trained: TrainedSplat, options: ExportSplat) -> tuple[Tensor, list[str]]:
    """[N] which Gaussians are written, and notes on what is left out and why."""
    splat, notes = trained.gaussians, []
    kept = drawable(splat)
    broken = int((~splat.finite()).sum())
    if broken:
        notes.append(f"Left out {broken} Gaussians whose numbers are not finite.")
    if not options.background:
        if trained.is_background is not None:
            kept &= ~trained.is_background
            notes.append(f"{int(trained.is_background.sum())} Gaussians are background.")
        else:
            notes.append(
                "The model does not say which Gaussians are background: left out what is farther than"
                f" {BACKGROUND_DISTANCE:g} camera distances."
            )
            kept &= _within(trained, BACKGROUND_DISTANCE, "--no-background")
    if options.crop is not None:
        kept &= _within(trained, options.crop, "--crop")
    require(bool(kept.any()), "what is written", "hold a Gaussian", "none", "Crop less.")
    return kept, notes


def _within(trained: TrainedSplat, distances: float, option: str) -> Tensor:
    require(trained.cameras is not None, option, "have the capture's cameras", "no capture", _NEEDS_CAPTURE)
    return within(trained.gaussians, trained.cameras, distances)  # type: ignore[arg-type]  # refused above
