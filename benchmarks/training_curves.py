"""The losses of training runs, drawn and as JSON: one curve per folder that ``scripts/train_distill.py`` wrote.

    python benchmarks/training_curves.py --runs teacher runs/tiny/teacher stage1 runs/tiny/stage1 \
        stage2 runs/tiny/stage2 --held-out runs/held_out --output benchmarks/results/bundled_training_cpu.json

With clips that were not trained on there is a summary, too: whether the first stage's discriminator is above chance,
and whether the second stage's weights h(r) vary. It needs the runs stage1 and stage2, with their checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from held_out_discriminator import DISCRIMINATOR, discriminator_on_clips, settings_of_run
from reporting import write_json

from fvgen.checks import require
from fvgen.models.find import BUNDLED

PANELS = {"student/loss": "student's loss", "critic/loss": "critics' loss"}
SMOOTHED = 5
"""Log lines that a point of a loss is the mean of."""

STAGES = ("stage1", "stage2")

Curves = Mapping[str, Mapping[str, list[tuple[int, float]]]]


@dataclass
class Options:
    """Draw what training runs logged."""

    runs: dict[str, Path]
    """NAME FOLDER of each run."""
    output: Path
    """JSON file to write; the picture goes beside it."""
    held_out: Path | None = None
    """Folder of clips that were not trained on, for the summary. None leaves the summary out."""
    teacher: Path = BUNDLED / "teacher"
    """Pipeline folder of the teacher that the student was distilled from."""

    def __post_init__(self) -> None:
        require(
            self.held_out is None or set(STAGES) <= set(self.runs),
            "runs",
            f"name {' and '.join(STAGES)} for a summary",
            ", ".join(self.runs),
            "Leave out --held-out for curves alone.",
        )


def main(options: Options) -> None:
    """Read the logs, write the JSON and the picture."""
    curves = {name: _curves(folder) for name, folder in options.runs.items()}
    found: dict[str, Any] = {"curves": curves}
    if options.held_out is not None:
        first, second = (options.runs[stage] for stage in STAGES)
        found["summary"] = summary(first, second, options.teacher, options.held_out)
    write_json(options.output, found)
    _draw(curves, options.output.with_suffix(".png"))
    print(f"{options.output} and {options.output.with_suffix('.png')}")


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every panel's figure in a run's log."""
    return {key: [(line["step"], line[key]) for line in _log(folder) if key in line] for key in PANELS}


def _log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def summary(stage1: Path, stage2: Path, teacher: Path, held_out: Path) -> dict[str, Any]:
    """Whether the two ideas did anything, on clips that were not trained on.

    ``accuracy_real`` and ``accuracy_fake`` are those of the discriminator at the end of the first stage (.5 is chance),
    ``h_mean`` and ``h_spread`` those of the weights at the end of the second (the spread is 0 where all clips weigh the
    same). ``regression_share`` is the regression's part of the second stage's loss, over its last half. A number of
    clips is that of updates times that of clips in each. ``stages`` has all figures of both.
    """
    stages = {}
    for name, folder in zip(STAGES, (stage1, stage2), strict=True):
        crop = settings_of_run(folder)["data"]["crop"]
        own = folder if (folder / DISCRIMINATOR).is_dir() else stage1  # a second stage that froze it exports none
        stages[name] = discriminator_on_clips(folder, own / DISCRIMINATOR, teacher, held_out, crop and tuple(crop))
    first, second = (stages[name] for name in STAGES)
    return {
        "accuracy_real": first["own noise, real right"],
        "accuracy_fake": first["own noise, fake right"],
        "h_mean": second["own noise, h mean"],
        "h_spread": second["own noise, h spread"],
        "regression_share": regression_share(stage2),
        "clips_stage1": _clips(stage1),
        "clips_stage2": _clips(stage2),
        "stages": stages,
    }


def regression_share(folder: Path) -> float:
    """Mean share of a run's loss that is regression to the real clips, over the last half of its records."""
    weight, lines = settings_of_run(folder)["objective"]["regression"]["weight"], _log(folder)
    last = lines[len(lines) // 2 :]
    return sum(weight * line.get("student/regression", 0.0) / line["student/loss"] for line in last) / len(last)


def _clips(folder: Path) -> int:
    return _log(folder)[-1]["step"] * settings_of_run(folder)["global_batch"]


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
