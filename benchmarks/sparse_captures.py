"""Held-out quality of splats from a capture's few train photos: what each part of the plugin is worth.

Every method runs through the real plugin at equal iterations, resolution, background and rasterizer:

- ``photos_only``: starts from the capture's sparse points.
- ``dense_init``: and from the dense cloud.
- ``points``, ``warp``, ``student``: and trains on views of that generator; the student is the bundled one.
- ``fvgen``: the plugin as it ships.
- ``oracle``: dense_init with real photos in between as generated views, the most a generator could bring.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a run per core is faster than a run over all cores

import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from held_out_photos import chosen_captures
from reporting import write_json, write_picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from thinned_capture import ORACLE_FOLDER, prepare

from fvgen.checks import InputError
from fvgen.devices import cpu_count

DENSIFY = "pipeline.datamanager.densify"
METHODS: dict[str, dict[str, Any]] = {
    "photos_only": {f"{DENSIFY}.geometry": "none", f"{DENSIFY}.generator": "none"},
    "dense_init": {f"{DENSIFY}.generator": "none", f"{DENSIFY}.seed_holes": "never"},
    "points": {f"{DENSIFY}.generator": "points", f"{DENSIFY}.seed_holes": "never"},
    "warp": {f"{DENSIFY}.generator": "warp", f"{DENSIFY}.seed_holes": "never"},
    "student": {f"{DENSIFY}.generator": "student", f"{DENSIFY}.seed_holes": "never"},
    "fvgen": {},
    "oracle": {f"{DENSIFY}.seed_holes": "never"},
}
SCORES = ("psnr", "ssim", "psnr_affine")
PICTURES = 3
"""Held-out photos shown per capture."""


@dataclass
class Benchmark:
    """Measure the plugin on a folder of captures."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write."""
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
    console = Console(width=120)
    names = chosen_captures(benchmark.captures, benchmark.only)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with ProcessPoolExecutor(benchmark.jobs, mp_context=get_context("spawn")) as pool:
        runs = {pool.submit(run_capture, benchmark, name): name for name in names}
        for finished in track(as_completed(runs), total=len(runs), description="captures", console=console):
            name = runs[finished]
            results[name] = finished.result()
            console.print(_table(name, results[name]))
            _write(benchmark, results)
    console.print(_table("mean", _means(results)))


def _write(benchmark: Benchmark, results: dict[str, dict[str, dict[str, float]]]) -> None:
    settings = {"method": benchmark.method, "seeds": benchmark.seeds, "views": benchmark.views}
    ordered = {name: results[name] for name in sorted(results)}
    write_json(benchmark.output, {"captures": ordered, "mean": _means(ordered), "settings": settings})


def run_capture(benchmark: Benchmark, name: str) -> dict[str, dict[str, float]]:
    """All methods and seeds on one capture: the mean of each score and its standard error over the seeds."""
    from plugin_run import run_plugin

    with tempfile.TemporaryDirectory() as scratch:
        capture = prepare(benchmark.captures / name, Path(scratch) / name, benchmark.views)
        scores: dict[str, dict[str, float]] = {}
        pictures: dict[str, list[np.ndarray]] = {}
        for method in benchmark.methods:
            if (
                method == "fvgen"
                and "warp" in scores
                and not _seeds_holes(capture, Path(scratch) / "cache", benchmark.method)
            ):
                scores[method], pictures[method] = scores["warp"], pictures["warp"]  # the very same runs
                continue
            options = {**METHODS[method], f"{DENSIFY}.cache_dir": Path(scratch) / "cache"}
            if method == "oracle":
                options[f"{DENSIFY}.views"] = Path(scratch) / ORACLE_FOLDER / name
            runs = [
                run_plugin(
                    capture,
                    Path(scratch) / "runs",
                    method=benchmark.method,
                    seed=seed,
                    options=options,
                    iterations=benchmark.iterations,
                )
                for seed in range(benchmark.seeds)
            ]
            scores[method] = _summary(runs)
            pictures.setdefault("photo", [photo.numpy() for photo in runs[0].photos])
            pictures[method] = [render.numpy() for render in runs[0].renders]
            shutil.rmtree(Path(scratch) / "runs")
        if benchmark.pictures is not None:
            _picture_grid(pictures, benchmark.pictures / f"{benchmark.output.stem}_{name}.jpg")
    return scores


def _seeds_holes(capture: Path, cache: Path, method: str) -> bool:
    """Whether the plugin's default decides to seed holes on this capture; otherwise it runs exactly as ``warp``."""
    from plugin_run import densify_only

    densify_only(capture, cache, method)
    return any(cache.rglob("hole_seeds.ply"))


def _summary(runs: list[Any]) -> dict[str, float]:
    summary: dict[str, float] = {}
    for score in SCORES:
        values = np.array([getattr(run, score) for run in runs])
        summary[score] = float(values.mean())
        if len(values) > 1:
            summary[f"{score}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    summary["seconds"] = float(np.mean([run.seconds for run in runs]))
    summary["gaussians"] = float(np.mean([run.gaussians for run in runs]))
    return summary


def _means(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Over captures; standard errors are those of the mean of independent runs."""
    means: dict[str, dict[str, float]] = {}
    for method in METHODS:
        rows = [result[method] for result in results.values() if method in result]
        if not rows:
            continue
        means[method] = {}
        for key in rows[0]:
            values = np.array([row[key] for row in rows])
            is_error = key.endswith("_se")
            means[method][key] = float(np.sqrt((values**2).sum()) / len(values) if is_error else values.mean())
    return means


def _table(title: str, scores: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title)
    for column in ("", "PSNR", "SSIM", "PSNR affine", "over photos_only", "seconds", "Gaussians"):
        table.add_column(column, justify="right" if column else "left")
    base = scores.get("photos_only")
    for method, score in scores.items():
        gain = f"{score['psnr'] - base['psnr']:+.2f} dB {score['ssim'] - base['ssim']:+.3f}" if base else ""
        table.add_row(
            method,
            *(_with_error(score, key, digits) for key, digits in zip(SCORES, (2, 4, 2), strict=True)),
            gain,
            f"{score['seconds']:.0f}",
            f"{score['gaussians']:.0f}",
        )
    return table


def _with_error(score: dict[str, float], key: str, digits: int) -> str:
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
