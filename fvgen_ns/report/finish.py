"""What stands at the end of a run: a table in the terminal and ``report.html`` beside ``config.yml``."""

from __future__ import annotations

import shlex
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from fvgen.checks import InputError
from fvgen.files import disk_errors, store
from fvgen.pictures import encode_mp4, image_bytes, png
from fvgen_ns.config_file import config_text
from fvgen_ns.report.figures import METRICS, RunFigures, compare_photos, figures_of, film_of
from fvgen_ns.report.page import Report, report_html

if TYPE_CHECKING:
    from fvgen_ns.fvgen_trainer import FVGenTrainer

_SHOWN = 6
"""Most photos in the report."""
PICTURES = "report_pictures"
"""Folder of the photos and renders that the report shows."""
FILM = "film.mp4"
_IF_FULL = "Free some space. The checkpoint is whole."


def finish(trainer: FVGenTrainer, seconds: dict[str, float]) -> None:
    """Measure the run, train on photos alone where that is to be compared, write the report, print the table.

    Args:
        trainer: of a run whose checkpoint is written.
        seconds: by part, so far.

    Raises:
        InputError: the run's folder cannot be written.
    """
    model, manager = cast(Any, trainer.pipeline.model), cast(Any, trainer.pipeline.datamanager)
    folder, config = trainer.base_dir, cast(Any, trainer.config)
    with disk_errors("--output-dir", folder, _IF_FULL):
        compared = compare_photos(model, manager)
        figures = figures_of(model, manager, compared, seconds, trainer.step + 1)
        for i, one in enumerate(compared[:_SHOWN]):
            store(folder / PICTURES / f"photo_{i:03d}.png", png(image_bytes(one.photo)))
            store(folder / PICTURES / f"render_{i:03d}.png", png(image_bytes(one.render)))
        figures.write(folder)
        others, renders = _photos_only(config, folder) if config.compare else (None, [])
        frames = film_of(model, manager)
        film = encode_mp4(frames, 12) if len(frames) else None
        if film is not None:
            store(folder / FILM, film)
        commands = next_commands(folder)
        report = Report(
            title=f"{config.experiment_name}: {config.method_name}",
            figures=figures,
            compared=compared[:_SHOWN],
            film=film,
            viewer=_web_viewer(folder),
            commands=commands,
            photos_only=others,
            photos_only_renders=renders,
        )
        store(folder / "report.html", report_html(report).encode())
    _show(figures, others, folder, commands)


def next_commands(folder: Path) -> dict[str, str]:
    """What a user may want next -> command."""
    run, config = shlex.quote(str(folder)), shlex.quote(str(folder / "config.yml"))
    return {
        "Look around": f"ns-viewer --load-config {config} --viewer.websocket-host 127.0.0.1",
        "A file for web viewers": f"fvgen export {run} --output splat.html",
        "A film": f"ns-render interpolate --load-config {config} --pose-source train --output-path film.mp4",
    }


def _photos_only(config: Any, folder: Path) -> tuple[RunFigures | None, list[Tensor]]:
    """Train on the photos alone with the same steps and size, in a process of its own; its figures and renders."""
    alone = deepcopy(config)
    alone.timestamp, alone.compare, alone.vis = f"{config.timestamp}-photos-only", 0, "tensorboard"
    alone.load_dir = alone.load_checkpoint = None
    densify = alone.pipeline.datamanager.densify
    densify.geometry = densify.generator = "none"
    CONSOLE.print("Training on the photos alone, to compare")
    path = folder / "photos_only.yml"
    store(path, config_text(alone).encode())
    line = [sys.executable, "-m", "nerfstudio.scripts.train", config.method_name, "--load-config", str(path)]
    subprocess.run(line, check=False)
    there = Path(alone.get_base_dir())
    found = RunFigures.read(there)
    if found is None:
        CONSOLE.print(f"[yellow]Note: training on the photos alone failed: {escape(str(there))} has no figures.")
    return found, [_read_picture(picture) for picture in sorted((there / PICTURES).glob("render_*.png"))]


def _web_viewer(folder: Path) -> str | None:
    """A page that shows the splat, also left beside the report; None where its program is not on this machine."""
    from fvgen_ns.export_splat import ExportSplat, export_splat

    page = folder / "splat.html"
    try:
        export_splat(ExportSplat(run=folder, output=page), quiet=True)
    except InputError:
        return None
    return page.read_text(encoding="utf-8")


def _show(figures: RunFigures, others: RunFigures | None, folder: Path, commands: dict[str, str]) -> None:
    table = Table(title=f"Means over {figures.photos}")
    for column in ("", *METRICS.values()):
        table.add_column(column)
    for name, run in (("photos only", others), ("this run", figures)):
        if run is not None:
            values = (f"{run.metrics[metric]:.{2 if metric == 'psnr' else 3}f}" for metric in METRICS)
            table.add_row(name, *values)
    CONSOLE.print(table)
    CONSOLE.print(", ".join(f"{count} {what}" for what, count in figures.counts.items()), highlight=False)
    took = ", ".join(f"{part} {seconds:.0f}" for part, seconds in figures.seconds.items())
    CONSOLE.print(f"Seconds: {took}", highlight=False)
    CONSOLE.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False, markup=False)
    for what, command in commands.items():
        CONSOLE.print(f"{what}: {command}", soft_wrap=True, highlight=False, markup=False)


def _read_picture(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255
