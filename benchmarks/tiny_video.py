"""Few-step students beside their teacher, on clips that no network was trained on: one row per training run.

    python benchmarks/tiny_video.py --teacher runs/tiny/teacher --runs stage1=runs/tiny/stage1 stage2=runs/tiny/stage2 \
        --clips runs/tiny/clips_held_out --output benchmarks/results/tiny_ablation_cpu.json

The runs are folders that ``scripts/train_distill.py`` wrote. The loss curves of their logs are drawn beside the JSON.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from held_out_clips import measure_clips
from reporting import settings_of, write_json
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fvgen.pipelines.diffusion_views import DiffusionViews

SMOOTHED = 5
"""Log lines that a point of a curve is the mean of."""


@dataclass
class Options:
    """Compare distilled students with their teacher."""

    teacher: Path
    """Folder of the teacher's run."""
    runs: dict[str, Path]
    """NAME FOLDER pairs of the students' runs."""
    clips: Path
    """Folder of prepared clips that no network was trained on."""
    output: Path
    """JSON file to write; the loss curves go beside it."""
    teacher_steps: int = 25
    """Sampling steps of the teacher."""
    count: int = 40
    """Clips to measure on."""
    side: int = 160
    """Height and width of the window that is cut from each."""
    seed: int = 0
    """Of the noise."""


def main(options: Options) -> None:
    """Measure, print the table, write the JSON and the curves."""
    console = Console(width=120)
    logs = {name: _log(folder) for name, folder in {"teacher": options.teacher, **options.runs}.items()}
    teacher = DiffusionViews("teacher", options.teacher / "teacher", steps=options.teacher_steps, size="working")
    rows = measure_clips(
        options.clips, options.count, ["render", "warp", "teacher"], {"teacher": teacher}, options.side, options.seed
    )
    for name, folder in track(options.runs.items(), description="students", console=console):
        student = DiffusionViews("student", folder / "student", size="working")
        drawn = measure_clips(
            options.clips, options.count, ["student"], {"student": student}, options.side, options.seed
        )
        rows[name] = drawn["student"]
    console.print(_table(rows))
    ends = {name: _end(log) for name, log in logs.items()}
    write_json(options.output, {"rows": rows, "runs": ends, "settings": settings_of(options)})
    _curves(logs, options.output.with_suffix(".png"))


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _end(log: list[dict[str, Any]]) -> dict[str, float]:
    """The last value of every plain figure of a run."""
    last: dict[str, float] = {}
    for line in log:
        last |= {key: value for key, value in line.items() if isinstance(value, int | float)}
    return last


def _table(rows: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table("run", "PSNR", "covered", "holes", "sharpness", "seconds / frame")
    for name, row in rows.items():
        figures = (row[key] for key in ("psnr", "covered", "holes", "sharpness", "seconds"))
        table.add_row(name, *(f"{figure:.2f}" for figure in figures))
    return table


def _curves(logs: Mapping[str, list[dict[str, Any]]], path: Path) -> None:
    """A panel per loss: what the student descends, what the critics descend, and the error on held-out latents."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.8), layout="constrained")
    panels = {"student/loss": "student's loss", "critic/loss": "critics' loss", "held_out/error": "held-out error"}
    for axis, (key, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for number, (name, log) in enumerate(logs.items()):
            points = np.array([(line["step"], line[key]) for line in log if key in line])
            width = 1 if key.startswith("held_out") else SMOOTHED
            if len(points) >= width:
                smooth = np.convolve(points[:, 1], np.full(width, 1 / width), mode="valid")
                axis.plot(
                    points[width - 1 :, 0], smooth, label=name, marker="." if width == 1 else None, color=f"C{number}"
                )
        axis.set(title=title, xlabel="step", xscale="log")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(logs))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options))
