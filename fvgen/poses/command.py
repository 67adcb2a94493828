"""``fvgen poses PHOTOS OUT``: camera poses for photos that have none."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fvgen.checks import require
from fvgen.command import run
from fvgen.poses.options import PoseOptions
from fvgen.poses.photos_to_capture import photos_to_capture


@dataclass(frozen=True, kw_only=True)
class Poses(PoseOptions):
    """Find the camera poses of photos and write a Nerfstudio dataset with sparse points."""

    photos: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTOS")]
    """Folder or zip archive of 2 to 30 photos of one scene, or a video."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """Folder to write; it must not exist yet."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(Poses, _poses, arguments, program)


def _poses(options: Poses) -> None:
    console = Console()
    require(not options.out.exists(), "OUT", "not exist yet", options.out, "Choose another folder.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading photos", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        notes = photos_to_capture(options.photos, options.out, options, show)
    train = shlex.join(["ns-train", "fvgen-splat", "--data", str(options.out)])
    for note in (*notes, f"Train with: {train}"):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
