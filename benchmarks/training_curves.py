"""The losses of training runs, drawn and as JSON: one curve per folder that ``scripts/train_distill.py`` wrote.

    python benchmarks/training_curves.py --runs teacher runs/tiny/teacher stage1 runs/tiny/stage1 \
        stage2 runs/tiny/stage2 --output benchmarks/results/bundled_training_cpu.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from reporting import write_json

PANELS = {"student/loss": "student's loss", "critic/loss": "critics' loss"}
SMOOTHED = 5
"""Log lines that a point of a loss is the mean of."""

Curves = Mapping[str, Mapping[str, list[tuple[int, float]]]]


@dataclass
class Options:
    """Draw what training runs logged."""

    runs: dict[str, Path]
    """NAME FOLDER of each run."""
    output: Path
    """JSON file to write; the picture goes beside it."""


def main(options: Options) -> None:
    """Read the logs, write the JSON and the picture."""
    curves = {name: _curves(folder) for name, folder in options.runs.items()}
    write_json(options.output, {"curves": curves})
    _draw(curves, options.output.with_suffix(".png"))
    print(f"{options.output} and {options.output.with_suffix('.png')}")


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every panel's figure in a run's log."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    return {key: [(line["step"], line[key]) for line in lines if key in line] for key in PANELS}


def _draw(curves: Curves, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axis, (key, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for number, (name, run) in enumerate(curves.items()):
            if len(run[key]) >= SMOOTHED:
                steps, values = np.array(run[key]).T
                smooth = np.convolve(values, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
                axis.plot(steps[SMOOTHED - 1 :], smooth, label=name, color=f"C{number}")
        axis.set(title=title, xlabel="step", xscale="log")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(curves))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options))
