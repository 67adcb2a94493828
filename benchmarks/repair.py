"""What repair is worth: the same run with and without it, on the held-out photos of a folder of captures.

    python benchmarks/repair.py --captures CAPTURES --output repair_cpu.json

No trials: the generator's views are in training in every run, so that there is something to repair. Geometry and views
are made once for each capture and generator.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from held_out_photos import chosen_captures
from reporting import settings_of, write_json
from rich.console import Console
from rich.progress import track
from thinned_capture import prepare

from fvgen.checks import InputError, require
from fvgen.files import read_json

SCORES = ("psnr", "psnr_covered", "psnr_uncovered", "ssim", "st_lpips", "avge")
_DENSIFY = "pipeline.datamanager.densify"


@dataclass
class Benchmark:
    """Measure repair on captures."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write. Captures that it holds already, of the same settings, are kept and not measured again."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    generators: list[Literal["points", "warp", "student"]] = field(default_factory=lambda: ["warp", "student"])
    """Generators of the views; the student is the bundled one."""
    method: str = "fvgen-splat-cpu"
    """Nerfstudio method whose settings all runs share."""
    iterations: int = 200
    """Training steps."""
    repair_at: tuple[float, ...] = (0.4, 0.7)
    """When the views are drawn once more, as fractions of the training."""
    size: int = 160
    """Longest side of the photos and of what is generated, in pixels."""
    points: int = 8000
    """Most Gaussians to start from."""
    seed: int = 0
    """Random seed of generation and training."""


def main(benchmark: Benchmark) -> None:
    """Run, and write the JSON after each capture.

    Raises:
        InputError: an option or a capture cannot be used; raised before work starts.
    """
    within = all(0 < fraction < 1 for fraction in benchmark.repair_at)
    require(within, "--repair-at", "lie between 0 and 1", benchmark.repair_at, "Ask for 0.4 0.7.")
    names = chosen_captures(benchmark.captures, benchmark.only)
    console = Console(width=120)
    settings = json.loads(json.dumps(settings_of(replace(benchmark, only=[]))))  # as they are read back
    found = read_json(benchmark.output) or {"captures": {}, "settings": settings}
    same = "be a new file or one of the same settings"
    require(found["settings"] == settings, "--output", same, benchmark.output, "Name another file.")
    results: dict[str, dict[str, dict[str, float]]] = found["captures"]
    for name in track([name for name in names if name not in results], description="captures", console=console):
        results[name] = run_capture(benchmark, name)
        for row, scores in results[name].items():
            console.print(f"{name}, {row}: {scores['psnr']:.2f} dB, AVGE {scores['avge']:.4f}")
        means = {row: _mean([result[row] for result in results.values()]) for row in results[name]}
        ordered = {name: results[name] for name in sorted(results)}
        write_json(benchmark.output, {"captures": ordered, "mean": means, "settings": settings})


def run_capture(benchmark: Benchmark, name: str) -> dict[str, dict[str, float]]:
    """Scores of one capture: by generator, without repair and with it."""
    from plugin_run import dense_cloud, run_plugin  # it imports Nerfstudio, which takes seconds

    steps = tuple(round(fraction * benchmark.iterations) for fraction in benchmark.repair_at)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        capture = prepare(benchmark.captures / name, work / name, None)
        shared: dict[str, Any] = {
            "pipeline.datamanager.image_size": benchmark.size,
            "pipeline.datamanager.max_points": benchmark.points,
            f"{_DENSIFY}.working_size": benchmark.size,
            f"{_DENSIFY}.cache_dir": work / "cache",
            f"{_DENSIFY}.trials": False,
        }
        cloud = dense_cloud(capture, benchmark.method, {**shared, f"{_DENSIFY}.generator": "none"})
        for generator in benchmark.generators:
            for row, repairs in ((generator, ()), (f"{generator}, repaired", steps)):
                started = time.process_time()
                run = run_plugin(
                    capture,
                    work / row,
                    method=benchmark.method,
                    seed=benchmark.seed,
                    iterations=benchmark.iterations,
                    options={**shared, f"{_DENSIFY}.generator": generator, f"{_DENSIFY}.repair_steps": repairs},
                    cloud=cloud,
                )
                rows[row] = {score: run.scores[score] for score in SCORES if score in run.scores}
                rows[row] |= {"seconds": run.seconds, "processor_seconds": time.process_time() - started}
                rows[row] |= _replaced(work / row)
    return rows


def _replaced(run: Path) -> dict[str, float]:
    """How many views were replaced, over all repairs, and their mean agreement with the photos before and after."""
    metas = [read_json(file) or {} for file in sorted(run.rglob("views_repaired/*/transforms.json"))]
    agreements = [frame["fvgen"]["agreement"] for meta in metas for frame in meta["frames"]]
    found: dict[str, float] = {"replaced": len(agreements)}
    if agreements:
        found |= {
            f"agreement_{when}": float(np.mean([one[when] for one in agreements])) for when in ("before", "after")
        }
    return found


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Over the captures that have a figure."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


if __name__ == "__main__":
    try:
        main(tyro.cli(Benchmark))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
