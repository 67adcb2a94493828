"""The paper's ablation (its Table 3) on tiny video: students of a small teacher, at one budget, on held-out clips.

    python benchmarks/tiny_video.py --work runs/ablation --output benchmarks/results/tiny_ablation_cpu.json

One command from nothing: it makes procedural clips, trains every row of `tiny_video_runs.ROWS` by
``scripts/train_distill.py``, and measures the students, their teacher at 25 steps, the warp and the render on clips of
other seeds. What is done is kept: start it again and it goes on. Curves are drawn beside the JSON. Scores have standard
errors, over seeds where several are given. DMD2, CausVid, AVDM2 (with an image model trained on frames of the same
clips), reverse KL without a GAN and the large presets on simulated input are rows, too; ``--only`` picks rows.

What results/tiny_ablation_cpu.json shows (one seed, 20 held-out clips at 96 pixels; students of 32-pixel crops,
batches of 8, no regression). Its runs were made stage by stage with the options of `tiny_video_runs`: 136 updates of
the first stage (the first 48 on 64 other scenes), then 24 more; no GAN had 24 alone, as many as the last stage of the
others.

- The discriminator is above chance before the last stage (69 % of real and 67 % of fake held-out clips right), and
  h(r) varies after it (.536 +- .213). What that took is in docs/training.md.
- Softened and plain reverse KL are the same within the errors: PSNR 27.18 and 27.14 dB (+- 1.6 over clips), SSIM .762
  and .760, ST-LPIPS .114 and .115, sharpness .86 and .87, motion .95 and .95. Weights that vary by 40 % do not show
  after 24 updates.
- Both have more texture and motion than the first stage alone (.75, .87), which has more than the untrained student
  (.66, .83); 1 is real. PSNR, SSIM and ST-LPIPS are worse with each (27.83 dB and 28.98 dB): the texture is not the
  true one.
- GAN only goes the same way, less far (27.44 dB, sharpness .79, motion .92). no GAN moved least from the untrained
  student (28.58 dB, .72, .86): it had 24 updates in all, so that it is not the equal of the others.
- So the paper's order is not shown, nor refuted: one seed, few updates, small crops.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import math
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from held_out_clips import SCORES, measure_clips
from held_out_discriminator import DISCRIMINATOR, discriminator_on_clips
from reporting import settings_of, write_json
from rich.console import Console
from rich.table import Table
from tiny_frame_teacher import train_frame_teacher
from tiny_video_runs import (
    FRAME_TEACHER,
    ROWS,
    Budget,
    Run,
    keep_budget,
    planned_rows,
    prepare_clips,
    train_rows,
    untrained_student,
)

from fvgen.checks import require
from fvgen.devices import cpu_count
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.models.find import BUNDLED
from fvgen.models.folder import load_component
from fvgen.models.unet_3d import VideoUNet

SMOOTHED = 10
"""Updates that a point of a curve is the mean of."""
CHANCE = 2 * math.log(2)
"""A discriminator's loss when it says 0 to all clips."""
UNTRAINED = "untrained student"
SHIPPED = "bundled student"
COLUMNS = ("psnr", "psnr_over_teacher", "holes", "ssim", "st_lpips", "sharpness", "motion")
METERS = {
    "discriminator_loss": "critic/discriminator",
    "fake_score_loss": "critic/fake_score",
    "r": "student/r_mean",
    "r_spread": "student/r_spread",
    "h_spread": "student/h_spread",
    "variance_ratio": "student/variance_ratio",
}
"""What is kept of each run: means over the last half of its updates, where the recipe has it."""


@dataclass
class Options:
    """Train and compare distilled students."""

    work: Path
    """Folder for clips and runs."""
    output: Path
    """JSON file to write; the plot goes beside it."""
    budget: Budget = field(default_factory=Budget)
    teacher: Path = BUNDLED / "teacher"
    """Pipeline folder of the teacher."""
    only: tuple[str, ...] = tuple(ROWS)
    """Rows to train. All when left out."""
    seeds: tuple[int, ...] = (0,)
    """Random seeds of training. Each row is trained once with each."""
    teacher_steps: int = 25
    """Sampling steps of the teacher."""
    count: int = 20
    """Held-out clips to measure on."""
    side: int = 96
    """Height and width of the window that is cut from each held-out clip."""
    seed: int = 0
    """Random seed of the noise that the samplers start from."""
    jobs: int = field(default_factory=cpu_count)
    """Number of processes at once, of one thread each."""


def main(options: Options) -> None:
    """Make what is missing, measure, print the table, write the JSON and the plot."""
    require(options.jobs >= 1, "jobs", "be at least 1", options.jobs, "Leave it out for one on every core.")
    planned_rows(options.work, options.budget, options.only)  # refuses unknown rows before work
    require(len(options.seeds) >= 1, "seeds", "name one", "none", "Leave it out for seed 0.")
    teacher, budget, jobs = options.teacher, options.budget, options.jobs
    clips, held_out = options.work / "clips", options.work / "clips_held_out"
    seconds: dict[str, dict[str, float]] = {}
    keep_budget(options.work, budget)
    with _timed(seconds, "clips"):
        prepare_clips(clips, budget.clips, 0, jobs)
        prepare_clips(held_out, options.count, 1_000_000, jobs)
    if any(stage.image_model for name in options.only for stage in ROWS[name]):
        with _timed(seconds, "image model"):
            train_frame_teacher(options.work / FRAME_TEACHER, clips, budget.crop, 5 * budget.updates)
    with _timed(seconds, "training"):
        runs = {
            seed: train_rows(options.work / f"seed_{seed}", clips, teacher, budget, jobs, options.only, seed)
            for seed in options.seeds
        }
    with _timed(seconds, "measuring"):
        rows, accuracies = _measure(options, teacher, runs, held_out)
    bar = rows["teacher"]["psnr"]
    rows = {name: {**row, "psnr_over_teacher": row["psnr"] - bar} for name, row in rows.items()}
    budgets = {
        name: [
            {"seed": seed, **_record(run, budget), **accuracies[run.output]}
            for seed, seed_runs in runs.items()
            for run in seed_runs[name]
        ]
        for name in options.only
    }
    rows = {name: {**row, **_cost(budgets.get(name, ()), len(runs))} for name, row in rows.items()}
    console = Console(width=120)
    console.print(_table(rows, budgets))
    for part, spent in seconds.items():
        console.print(f"{part}: {spent['wall']:.0f} s, {spent['cpu']:.0f} s of one core")
    parameters = load_component(VideoUNet, teacher / "unet").num_parameters()
    settings = {**settings_of(options), "budget": asdict(budget), "teacher_parameters": parameters}
    write_json(options.output, {"rows": rows, "runs": budgets, "seconds": seconds, "settings": settings})
    _plot(rows, runs[options.seeds[0]], options.output.with_suffix(".png"))


@contextmanager
def _timed(seconds: dict[str, dict[str, float]], part: str) -> Iterator[None]:
    """Note the wall time of what is done within, and the time of all cores in it (other programs slow the first)."""
    before = os.times()
    yield
    spent = [now - then for now, then in zip(os.times(), before, strict=True)]
    seconds[part] = {"wall": spent[4], "cpu": sum(spent[:4])}


def _measure(
    options: Options, teacher: Path, runs: Mapping[int, Mapping[str, Sequence[Run]]], held_out: Path
) -> tuple[dict[str, dict[str, Any]], dict[Path, dict[str, float]]]:
    """Scores of every row, and by run how its discriminator fares; several networks at once."""
    students = {UNTRAINED: [untrained_student(teacher, options.work / "untrained")], SHIPPED: [BUNDLED / "student"]}
    students |= {name: [of_seed[name][-1].output / "student" for of_seed in runs.values()] for name in options.only}
    networks = {"teacher": [DiffusionViews("teacher", teacher, steps=options.teacher_steps, size="working")]}
    networks |= {
        name: [DiffusionViews("student", folder, size="working") for folder in folders]
        for name, folders in students.items()
    }
    outputs = {run.output for of_seed in runs.values() for row in of_seed.values() for run in row}
    crop = (options.budget.crop, options.budget.crop)
    on_clips = (options.side, options.seed)
    # New processes: what torch has started in this one does not survive a fork.
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        scores = {
            name: [pool.submit(measure_clips, held_out, options.count, [name], {name: n}, *on_clips) for n in of_seeds]
            for name, of_seeds in networks.items()  # the teacher first: it takes the longest
        }
        accuracies = {
            output: pool.submit(discriminator_on_clips, output, output / DISCRIMINATOR, teacher, held_out, crop)
            for output in outputs
        }
        rows: dict[str, dict[str, Any]] = measure_clips(held_out, options.count, ["render", "warp"], {}, *on_clips)
        rows |= {name: _over_seeds([score.result()[name] for score in of_seeds]) for name, of_seeds in scores.items()}
        return rows, {output: found.result() for output, found in accuracies.items()}


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of a row's scores over seeds. Its standard errors are those over seeds where there are several, else those
    over clips."""
    if len(rows) == 1:
        return dict(rows[0])
    values = {name: np.array([row[name] for row in rows]) for name in SCORES if rows[0][name] is not None}
    errors = {f"{name}_se": float(of.std(ddof=1) / math.sqrt(len(of))) for name, of in values.items()}
    return {name: float(of.mean()) for name, of in values.items()} | errors


def _cost(runs: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, float]:
    """What a row's stages took together, mean over seeds; nothing for a row that was not trained."""
    names = ("updates", "clips", "cpu_seconds") if runs else ()
    return {name: sum(run[name] for run in runs) / seeds for name in names}


def _record(run: Run, budget: Budget) -> dict[str, Any]:
    """A run's budget, cost and meters."""
    means = {name: value for name, key in METERS.items() if (value := run.mean(key)) is not None}
    cost = {"seconds": run.log[-1]["seconds"], "cpu_seconds": run.cpu_seconds}
    return {**asdict(run.stage), "updates": run.updates, "clips": run.updates * budget.batch, **cost, **means}


def _table(rows: Mapping[str, Mapping[str, Any]], budgets: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    table = Table(
        "row",
        "updates",
        "PSNR",
        "- teacher",
        "holes",
        "SSIM",
        "ST-LPIPS",
        "sharpness",
        "motion",
        "D right: real / fake",
    )
    for name, row in rows.items():
        own = budgets.get(name, ())
        figures = (f"{row[key]:.3f}" if key in ("ssim", "st_lpips") else f"{row[key]:.2f}" for key in COLUMNS)
        right = [[run.get(f"own noise, {kind} right") for kind in ("real", "fake")] for run in own]
        accuracy = ", ".join(
            f"{real:.2f} / {fake:.2f}" for real, fake in right if real is not None and fake is not None
        )
        table.add_row(name, " + ".join(str(run["updates"]) for run in own), *figures, accuracy)
    return table


def _plot(rows: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Sequence[Run]], path: Path) -> None:
    """Error against sharpness of every row, and how the discriminators and the fake scores fared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    scores, telling, scoring = figure.subplots(1, 3)
    colours = {name: f"C{number}" for number, name in enumerate([*runs, *(name for name in rows if name not in runs)])}
    for name, row in rows.items():
        if name == "render":  # its holes are black: far from all others
            continue
        marker = "o" if name in runs else "x"
        scores.scatter(row["sharpness"], row["psnr"], marker=marker, color=colours[name], label=name)
    scores.set(title="held-out clips", xlabel="sharpness (1: the real frames')", ylabel="PSNR, dB")
    for name, row_runs in runs.items():
        first = 0
        for run in row_runs:
            for axis, key in ((telling, "critic/discriminator"), (scoring, "critic/fake_score")):
                points = np.array([(first + line["step"], line[key]) for line in run.log if key in line])
                if len(points) >= SMOOTHED:
                    smooth = np.convolve(points[:, 1], np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
                    axis.plot(points[SMOOTHED - 1 :, 0], smooth, label=name, color=colours[name])
            first += run.updates
    telling.axhline(CHANCE, color="black", linestyle=":", label="chance")
    telling.set(title="discriminator's loss", xlabel="update of the student")
    scoring.set(title="fake score's loss", xlabel="update of the student")
    for axis in (scores, telling, scoring):
        axis.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Options))
