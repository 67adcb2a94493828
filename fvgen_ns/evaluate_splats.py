"""Splats against held-out photos: every method through the same ns-train and ns-eval, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from rich.console import Console

import fvgen
from fvgen.checks import InputError, require
from fvgen.evaluation.evaluate_views import load_networks
from fvgen.evaluation.evaluation_report import EvaluationReport, mean_over_scenes
from fvgen.evaluation.protocol import Protocol, load_protocol
from fvgen.evaluation.published_rows import published_table
from fvgen.evaluation.run_results import RunResults, config_key, folder_digest
from fvgen.evaluation.scenes import find_scenes, prepare_scene
from fvgen.evaluation.scores import WITHOUT_DOWNLOADS, Metric, ScoreSettings, score_pictures

_DENSIFY = "--pipeline.datamanager.densify"
METHODS: Mapping[str, tuple[str, ...]] = {
    "photos_only": (f"{_DENSIFY}.geometry", "none", f"{_DENSIFY}.generator", "none"),
    "dense": (f"{_DENSIFY}.generator", "none"),
    "points": (f"{_DENSIFY}.generator", "points"),
    "warp": (f"{_DENSIFY}.generator", "warp"),
    "student": (f"{_DENSIFY}.generator", "student"),
    "teacher": (f"{_DENSIFY}.generator", "teacher"),
    "fvgen": (),
}
"""Name -> options of ns-train; "fvgen" is the plugin as it ships."""
SHOWN = 3
"""Held-out photos of a scene in the picture grid."""
BEST_STEPS = (600, 2000, 7000)
"""Lengths of which photos_best takes the best."""


@dataclass
class EvaluateSplats:
    """Compare splats of several methods on held-out photos, at equal steps and size."""

    data: Path
    """Folder of a data set, of captures, or one capture."""
    output: Path
    """Folder for runs, results and the report; an evaluation that was stopped goes on there."""
    protocol: str = "own-split"
    """Which photos are trained on and which are compared: name of a protocol, or a JSON file of your own."""
    views: int | None = None
    """Number of training photos, where the protocol knows several."""
    scenes: list[str] = field(default_factory=list)
    """Names of the scenes to run; all by default."""
    methods: list[str] = field(default_factory=lambda: ["photos_only", "dense", "fvgen"])
    """Methods: photos_only, photos_best, dense, points, warp, student, teacher, fvgen. photos_best is photos_only at
    the best of 600, 2000 and 7000 steps."""
    steps: int = 2000
    """Training steps of every method."""
    seeds: int = 3
    """Runs of each method on each scene; equal seeds give equal figures on a processor."""
    preset: Literal["fvgen-splat", "fvgen-splat-cpu"] = "fvgen-splat-cpu"
    """Nerfstudio method whose settings all runs share."""
    size: int | None = None
    """Longest side of the training photos in pixels; by default the photos' own, as papers train."""
    metrics: list[Metric] = field(default_factory=lambda: list(WITHOUT_DOWNLOADS))
    """Scores to compute. lpips_vgg, lpips_alex and fid need --weights."""
    weights: Path | None = None
    """Folder of the files that fvgen evaluate fetch has put there."""


def evaluate_splats(options: EvaluateSplats) -> EvaluationReport:
    """Run, store each result as it comes, write the report.

    Raises:
        InputError: an option cannot be used; raised before work starts. A run that fails later is named in the report,
            and the others go on.
    """
    console = Console()
    protocol = load_protocol(options.protocol)
    known = [*METHODS, "photos_best"]
    unknown = [name for name in options.methods if name not in known]
    require(not unknown, "methods", f"be out of {', '.join(known)}", ", ".join(unknown), "Check the names.")
    require(options.seeds >= 1 and options.steps >= 1, "seeds and steps", "be at least 1", options.seeds, "Try 3.")
    networks = load_networks(options.metrics, options.weights)
    scenes = find_scenes(protocol, options.data, options.scenes)
    results = RunResults(options.output)
    report = EvaluationReport(f"Splats, protocol {protocol.name}, {options.steps} steps", [protocol.about], {})
    report.notes += [protocol.differs] if protocol.differs else []
    settings = ScoreSettings(tuple(options.metrics))
    for scene in scenes:
        try:
            prepared = prepare_scene(protocol, scene, options.output / "scenes" / scene.name, options.views)
        except InputError as error:
            report.notes.append(f"{scene.name} failed: {error}")
            continue
        report.notes.append(f"{scene.name}: starts from {prepared.first_points} sparse points.")
        digest = folder_digest(prepared.folder)
        found: dict[str, dict[str, float]] = {}
        for method, steps in _runs(options):
            runs = []
            for seed in range(options.seeds):
                console.print(f"{scene.name}: {method}, {steps} steps, seed {seed}")
                run = _Run(prepared.folder, method, steps, seed, options, protocol)
                config = run.config(digest)
                folder = options.output / "runs" / config_key(config)
                result = results.get_or_run(config, partial(run.train_and_score, folder, settings, networks))
                if "failed" in result:
                    report.notes.append(f"{scene.name}, {method}, seed {seed} failed: {result['failed']}")
                else:
                    runs.append(result)
                    if seed == 0:
                        _show(report, scene.name, method, folder)
            if runs:
                found[method if steps == options.steps else f"{method} {steps}"] = _summary(runs)
        report.rows[scene.name] = found
    require(any(report.rows.values()), "evaluation", "score something", "nothing", " ".join(report.notes[-2:]))
    _finish(report, protocol, options)
    for path in report.write(options.output):
        console.print(f"Written: {path}", soft_wrap=True)
    return report


@dataclass(frozen=True)
class _Run:
    """One training run and its scores."""

    capture: Path
    method: str
    steps: int
    seed: int
    options: EvaluateSplats
    protocol: Protocol

    def config(self, digest: str) -> dict[str, Any]:
        """Everything that decides the result."""
        kept = {"method": self.method, "steps": self.steps, "seed": self.seed, "scene": digest}
        shared = {name: getattr(self.options, name) for name in ("preset", "size", "metrics")}
        return {**kept, **shared, "arguments": list(METHODS[self.method]), "version": fvgen.__version__}

    def train_and_score(
        self, folder: Path, settings: ScoreSettings, networks: Mapping[Any, torch.nn.Module]
    ) -> dict[str, Any]:
        """ns-train and ns-eval, then the scores of the pictures that ns-eval has written."""
        start = time.perf_counter()
        _command("ns-train", *self._training(folder))
        seconds = time.perf_counter() - start
        config = next(folder.glob("run/*/*/config.yml"))
        _command(
            "ns-eval",
            "--load-config",
            config,
            "--output-path",
            folder / "eval.json",
            "--render-output-path",
            folder / "pictures",
        )
        evaluated = json.loads((folder / "eval.json").read_text(encoding="utf-8"))["results"]
        photos, renders = read_eval_pictures(folder / "pictures")
        scores = score_pictures(renders, photos, [f"{i:04d}" for i in range(len(photos))], settings, networks)
        return {**scores.as_json(), "ns_eval": evaluated, "seconds": {"seconds": seconds}}

    def _training(self, folder: Path) -> list[object]:
        size = self.options.size
        if size is None:
            meta = json.loads((self.capture / "transforms.json").read_text(encoding="utf-8"))
            size = max(max(frame["w"], frame["h"]) for frame in meta["frames"])
        arguments: list[object] = [self.options.preset, "--data", self.capture, "--output-dir", folder]
        arguments += ["--experiment-name", "run", "--timestamp", "run", "--vis", "tensorboard"]
        arguments += ["--machine.seed", self.seed, "--max-num-iterations", self.steps]
        arguments += ["--pipeline.datamanager.image-size", size]
        if self.protocol.background is not None:
            arguments += ["--pipeline.model.background-color", self.protocol.background]
        return [*arguments, *METHODS[self.method]]


def read_eval_pictures(folder: Path) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Photos and renders of ns-eval's pictures, which hold the two side by side; [3, H, W] in [0, 1] each."""
    photos, renders = [], []
    for path in sorted(folder.glob("eval_img_*.png")):
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1).float() / 255
        photo, render = pixels.split(pixels.shape[2] // 2, dim=2)
        photos.append(photo)
        renders.append(render)
    require(bool(photos), "ns-eval's folder", "hold pictures", f"none in {folder}", "Run the evaluation again.")
    return photos, renders


def _command(name: str, *arguments: object) -> None:
    """Run a command of this environment; its last lines explain a failure."""
    call = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        raise RuntimeError(f"{name} exited with {done.returncode}: {(done.stderr or done.stdout)[-400:]}")


def _runs(options: EvaluateSplats) -> list[tuple[str, int]]:
    """Methods and lengths; photos_best needs photos_only at all of its lengths."""
    chosen = [(name, options.steps) for name in options.methods if name != "photos_best"]
    if "photos_best" in options.methods:
        chosen += [("photos_only", steps) for steps in BEST_STEPS]
    return list(dict.fromkeys(chosen))


def _summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Means over the seeds, their standard errors, seconds."""
    rows = [{**run["mean"], **run["seconds"]} for run in runs]
    summary = {}
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        summary[key] = float(values.mean())
        if len(values) > 1 and key != "seconds":
            summary[f"{key}_se"] = float(values.std(ddof=1) / np.sqrt(len(values)))
    return summary


def _show(report: EvaluationReport, scene: str, method: str, folder: Path) -> None:
    photos, renders = read_eval_pictures(folder / "pictures")
    chosen = np.linspace(0, len(photos) - 1, min(SHOWN, len(photos))).round().astype(int)
    shown = report.pictures.setdefault(scene, {})
    for name, pictures in (("photo", photos), (method, renders)):
        shown[name] = [(255 * pictures[i].permute(1, 2, 0)).round().byte().numpy() for i in chosen]


def _finish(report: EvaluationReport, protocol: Protocol, options: EvaluateSplats) -> None:
    means = mean_over_scenes(report.rows)
    report.rows["mean"] = means
    if "photos_best" in options.methods:
        lengths = {name: row for name, row in means.items() if name.startswith("photos_only") and "psnr" in row}
        best = max(lengths, key=lambda name: lengths[name]["psnr"], default=None)
        if best is not None:
            means["photos_best"] = lengths[best]
            report.notes.append(f"photos_best is {best}: the best mean PSNR over the scenes.")
    if protocol.published is not None:
        table = published_table(protocol.published)
        views = options.views
        for scene in [*report.rows]:
            report.published += table.select(scene=scene, **({} if views is None else {"views": views}))
    report.facts["version"] = fvgen.__version__
