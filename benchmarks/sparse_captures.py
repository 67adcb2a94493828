"""Held-out quality of splats from a capture's few train photos: what each part of the plugin is worth.

Every method runs through the real plugin at equal iterations, resolution, background and rasterizer:

- ``photos_only``: starts from the capture's sparse points.
- ``photos_best``: the same with settings of its own, at its best length of 600, 2000 and 7000 iterations.
- ``dense_init``: and from the dense cloud.
- ``background``: and from a background where that leaves the photos empty.
- ``points``, ``warp``, ``student``: and trains on views of that generator; the student is the bundled one.
- ``fvgen``: the plugin as it ships, which chooses among these by trials.
- ``oracle``: background with real photos in between as generated views, the most a generator could bring.

Scenes of LLFF (captures whose name begins with ``llff_``) are run at their own size and stand apart from the means.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a run per core is faster than a run over all cores

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from held_out_photos import chosen_captures
from reporting import write_json, write_picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from thinned_capture import ORACLE_FOLDER, prepare

from fvgen.checks import InputError, require
from fvgen.devices import cpu_count
from fvgen.files import read_json
from fvgen.types import PointCloud

if TYPE_CHECKING:  # it imports Nerfstudio, which takes seconds
    from plugin_run import RunResult

DENSIFY = "pipeline.datamanager.densify"
PHOTOS_ONLY: dict[str, Any] = {f"{DENSIFY}.geometry": "none", f"{DENSIFY}.generator": "none"}
FIXED = {f"{DENSIFY}.trials": False}
METHODS: dict[str, dict[str, Any]] = {
    "photos_only": PHOTOS_ONLY,
    "photos_best": PHOTOS_ONLY,
    "dense_init": {**FIXED, f"{DENSIFY}.generator": "none", f"{DENSIFY}.background": False},
    "background": {**FIXED, f"{DENSIFY}.generator": "none"},
    "points": {**FIXED, f"{DENSIFY}.generator": "points"},
    "warp": {**FIXED, f"{DENSIFY}.generator": "warp"},
    "student": {**FIXED, f"{DENSIFY}.generator": "student"},
    "fvgen": {},
    "oracle": FIXED,
}
BEST_OF = {"photos_best": (600, 2000, 7000)}
"""Method -> lengths in iterations; the one of the lowest AVGE on the held-out photos counts."""
SCORES = {"psnr": 2, "psnr_affine": 2, "ssim": 3, "st_lpips": 3, "avge": 4, "psnr_covered": 2, "psnr_uncovered": 2}
"""Measure -> digits shown."""
LLFF, LLFF_SIZE = "llff_", 504
"""Beginning of the names of LLFF's scenes, and the longest side that papers measure them at (an eighth)."""
PICTURES = 3
"""Held-out photos shown per capture."""

Scores = dict[str, float]
"""Means over seeds by measure, and standard errors under the measure's name with ``_se``."""


@dataclass
class Benchmark:
    """Measure the plugin on a folder of captures."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write. Figures of the same settings that it holds already are kept, and not measured again."""
    pictures: Path | None = None
    """Folder for a picture grid of each capture; none is drawn by default, since many captures may not be shown."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    methods: list[str] = field(default_factory=lambda: list(METHODS))
    """Methods to run."""
    seeds: int = 3
    """Runs per capture and method."""
    views: int | None = None
    """Train photos to keep, by the rule of fvgen.data.view_thinning; all by default."""
    method: str = "fvgen-splat-cpu"
    """Nerfstudio method whose settings all runs share."""
    iterations: int | None = None
    """Training steps; by default the method's."""
    jobs: int = field(default_factory=cpu_count)
    """Captures that run at once."""


def main(benchmark: Benchmark) -> None:
    """Run, print the table, write the JSON and the picture grids that are asked for.

    Raises:
        InputError: a capture cannot be used; said before work starts.
    """
    console = Console(width=140)
    names = chosen_captures(benchmark.captures, benchmark.only)
    results = _measured(benchmark)
    missing = {name: [m for m in benchmark.methods if m not in results.get(name, {})] for name in names}
    with ProcessPoolExecutor(benchmark.jobs, mp_context=get_context("spawn")) as pool:
        runs = {
            pool.submit(run_capture, benchmark, name, methods): name for name, methods in missing.items() if methods
        }
        for finished in track(as_completed(runs), total=len(runs), description="captures", console=console):
            name = runs[finished]
            results[name] = results.get(name, {}) | finished.result()
            console.print(_table(name, results[name]))
            settings = _settings(benchmark)
            ordered = {name: results[name] for name in sorted(results)}
            write_json(benchmark.output, {"captures": ordered, "mean": _means(ordered), "settings": settings})
    console.print(_table("mean", _means(results)))


def _measured(benchmark: Benchmark) -> dict[str, dict[str, Scores]]:
    """What an earlier call with the same settings has left in the output file.

    Raises:
        InputError: it holds figures of other settings.
    """
    found = read_json(benchmark.output)
    if found is None:
        return {}
    same = "be a new file or one of the same settings"
    require(found.get("settings") == _settings(benchmark), "--output", same, benchmark.output, "Name another file.")
    return dict(found["captures"])


def _settings(benchmark: Benchmark) -> dict[str, Any]:
    return {"method": benchmark.method, "views": benchmark.views, "iterations": benchmark.iterations}


def run_capture(benchmark: Benchmark, name: str, methods: list[str]) -> dict[str, Scores]:
    """The given methods and all seeds on one capture."""
    from plugin_run import dense_cloud

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        capture = prepare(benchmark.captures / name, work / name, benchmark.views)
        shared: dict[str, Any] = {f"{DENSIFY}.cache_dir": work / "cache"}
        if name.startswith(LLFF):
            shared |= {"pipeline.datamanager.image_size": LLFF_SIZE, f"{DENSIFY}.working_size": LLFF_SIZE}
        cloud = dense_cloud(capture, benchmark.method, {**shared, **METHODS["dense_init"]})
        scores: dict[str, Scores] = {}
        pictures: dict[str, list[np.ndarray]] = {}
        for method in methods:
            options = {**shared, **METHODS[method]}
            if method == "oracle":
                options[f"{DENSIFY}.views"] = work / ORACLE_FOLDER / name
            candidates = [
                _run_seeds(benchmark, capture, cloud, options, length)
                for length in BEST_OF.get(method, (benchmark.iterations,))
            ]
            scores[method], shown = min(candidates, key=lambda candidate: candidate[0]["avge"])
            pictures.setdefault("photo", [photo.numpy() for photo in shown.photos])
            pictures[method] = [render.numpy() for render in shown.renders]
        if benchmark.pictures is not None:
            _picture_grid(pictures, benchmark.pictures / f"{benchmark.output.stem}_{name}.jpg")
    return scores


def _run_seeds(
    benchmark: Benchmark, capture: Path, cloud: PointCloud, options: dict[str, Any], iterations: int | None
) -> tuple[Scores, RunResult]:
    """One method at one length: scores over all seeds, and the run of the first."""
    from plugin_run import run_plugin

    with tempfile.TemporaryDirectory() as output:
        runs = [
            run_plugin(
                capture,
                Path(output),
                method=benchmark.method,
                seed=seed,
                options=options,
                cloud=cloud,
                iterations=iterations,
            )
            for seed in range(benchmark.seeds)
        ]
    return _summary(runs), runs[0]


def _summary(runs: list[RunResult]) -> Scores:
    summary: Scores = {"seeds": len(runs)}
    for score in SCORES:
        values = np.array([run.scores[score] for run in runs if score in run.scores])
        if len(values):
            summary[score] = float(values.mean())
        if len(values) > 1:
            summary[f"{score}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    for name in ("iterations", "seconds", "gaussians"):
        summary[name] = float(np.mean([getattr(run, name) for run in runs]))
    return summary


def _means(results: dict[str, dict[str, Scores]]) -> dict[str, Scores]:
    """Over captures, without LLFF's; standard errors are those of the mean of independent runs."""
    means: dict[str, Scores] = {}
    for method in METHODS:
        rows = [row[method] for name, row in results.items() if method in row and not name.startswith(LLFF)]
        for key in dict.fromkeys(key for row in rows for key in row):
            values = np.array([row[key] for row in rows if key in row])
            is_error = key.endswith("_se")
            if is_error and len(values) < len(rows):
                continue  # of some captures' mean, and not of all
            mean = np.sqrt((values**2).sum()) / len(values) if is_error else values.mean()
            means.setdefault(method, {})[key] = float(mean)
    return means


def _table(title: str, scores: dict[str, Scores]) -> Table:
    table = Table("", *SCORES, "steps", "seconds", "Gaussians", title=title)
    for method, score in scores.items():
        measures = [_with_error(score, key, digits) for key, digits in SCORES.items()]
        table.add_row(method, *measures, *(f"{score[name]:.0f}" for name in ("iterations", "seconds", "gaussians")))
    return table


def _with_error(score: Scores, key: str, digits: int) -> str:
    if key not in score:
        return "-"
    error = f" ±{score[f'{key}_se']:.{digits}f}" if f"{key}_se" in score else ""
    return f"{score[key]:.{digits}f}{error}"


def _picture_grid(pictures: dict[str, list[np.ndarray]], path: Path) -> None:
    """Rows: held-out photos; columns: the photo, then each method in order."""
    chosen = np.linspace(0, len(pictures["photo"]) - 1, min(PICTURES, len(pictures["photo"]))).round().astype(int)
    rows = [np.concatenate([pictures[column][i] for column in pictures], axis=1) for i in chosen]
    write_picture(path, (255 * np.concatenate(rows).clip(0, 1)).astype(np.uint8))


if __name__ == "__main__":
    try:
        main(tyro.cli(Benchmark))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
