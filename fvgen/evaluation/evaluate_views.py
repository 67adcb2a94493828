"""Generated views against real photos: made here by a generator, or by other programs and read from their folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

import fvgen
from fvgen.checks import InputError, require
from fvgen.devices import default_device, synchronize
from fvgen.evaluation.evaluation_report import EvaluationReport, mean_over_scenes
from fvgen.evaluation.extractors import RELEASED, ExtractorName, load_extractor
from fvgen.evaluation.frames_of import Frame, match_frames, read_frames
from fvgen.evaluation.held_out import held_out_clips, train_and_test
from fvgen.evaluation.protocol import load_protocol
from fvgen.evaluation.published_rows import published_table
from fvgen.evaluation.run_results import RunResults, folder_digest
from fvgen.evaluation.scenes import PreparedScene, find_scenes, prepare_scene
from fvgen.evaluation.scores import NETWORK_OF, WITHOUT_DOWNLOADS, Metric, Scores, ScoreSettings, score_pictures
from fvgen.files import whole_folder
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.background import with_background
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.models.find import NEEDS_MODEL
from fvgen.pictures import image_bytes
from fvgen.types import Cover, SceneGeometry

SHOWN = 3
"""Views of a scene in the picture grid."""


@dataclass
class EvaluateViews:
    """Compare generated views with the real photos that stand in their places."""

    data: Path
    """Folder of a data set, of captures, or one capture."""
    output: Path
    """Folder for frames, results and the report; an evaluation that was stopped goes on there."""
    protocol: str = "fvgen-5-to-56"
    """Which photos are inputs and which are compared: name of a protocol, or a JSON file of your own."""
    views: int | None = None
    """Number of input photos, where the protocol knows several."""
    scenes: list[str] = field(default_factory=list)
    """Names of the scenes to run; all by default."""
    generators: list[str] = field(default_factory=lambda: ["points", "warp"])
    """Generators to run: points, warp, student, teacher."""
    models: list[str] = field(default_factory=list)
    """Further networks, each as NAME=student:FOLDER or NAME=teacher:FOLDER; NAME is what its row is called."""
    frames: list[str] = field(default_factory=list)
    """Frames of other programs, each as NAME=FOLDER; the folder has a folder for each scene."""
    long_side: int = 512
    """Longest side of the working size in pixels."""
    geometry: str = "auto"
    """Where depth comes from, as in ns-train."""
    metrics: list[Metric] = field(default_factory=lambda: list(WITHOUT_DOWNLOADS))
    """Scores to compute. lpips_vgg, lpips_alex and fid need --weights."""
    weights: Path | None = None
    """Folder of the files that fvgen evaluate fetch has put there."""
    seed: int = 0
    """Random seed of the diffusion networks' noise."""


@dataclass(frozen=True)
class Row:
    """A generator and its model, under the name that stands in the tables."""

    name: str
    generator: str
    model: str | None = None


def evaluate_views(options: EvaluateViews) -> EvaluationReport:
    """Run, store each result as it comes, write the report.

    Raises:
        InputError: an option cannot be used; raised before work starts. A scene that fails later is named in the
            report, and the others go on.
    """
    console = Console()
    protocol = load_protocol(options.protocol)
    rows = _rows(options)
    others = [(name, Path(place)) for name, place in _named("--frames", options.frames, "NAME=FOLDER")]
    networks = load_networks(options.metrics, options.weights)
    scenes = find_scenes(protocol, options.data, options.scenes)
    score = partial(score_pictures, settings=ScoreSettings(tuple(options.metrics)), networks=networks)
    results = RunResults(options.output)
    report = EvaluationReport(f"Generated views, protocol {protocol.name}", [protocol.about], {})
    report.notes += [protocol.differs] if protocol.differs else []
    for folder in scenes:
        try:
            prepared = prepare_scene(protocol, folder, options.output / "scenes" / folder.name, options.views)
            scene = _Scene(prepared, options)
        except InputError as error:
            report.notes.append(f"{folder.name} failed: {error}")
            continue
        report.notes += [f"{folder.name}: {prepared.split.note}"] if prepared.split.note else []
        digest = folder_digest(prepared.folder)
        found: dict[str, dict[str, float]] = {}
        for row in rows:
            console.print(f"{folder.name}: {row.name}")
            config = _config(options, row.name, digest) | {"generator": row.generator, "model": row.model}
            result = results.get_or_run(config, partial(_run, scene, row, options, score))
            _keep(report, found, folder.name, row.name, result)
        for name, place in others:
            config = _config(options, name, digest) | {"frames": folder_digest(place / folder.name)}
            result = results.get_or_run(config, partial(_compare, scene, place / folder.name, score))
            _keep(report, found, folder.name, name, result)
        report.rows[folder.name] = found
        report.pictures[folder.name] = scene.pictures([row.name for row in rows])
    _finish(report, protocol.published, options)
    for path in report.write(options.output):
        console.print(f"Written: {path}", soft_wrap=True)
    return report


def load_networks(metrics: Sequence[Metric], folder: Path | None) -> dict[ExtractorName, Any]:
    """The networks that the metrics ask for, from the folder that ``fvgen evaluate fetch`` fills.

    Raises:
        InputError: one is missing or damaged.
    """
    wanted = dict.fromkeys(NETWORK_OF[metric] for metric in metrics if metric in NETWORK_OF)
    return {name: load_extractor(name, (folder or Path()) / RELEASED[name].file) for name in wanted}


def _rows(options: EvaluateViews) -> list[Row]:
    known = [name for name in VIEW_GENERATORS if name != "none"]
    rows = [Row(name, name) for name in options.generators]
    for name, model in _named("--models", options.models, "NAME=student:FOLDER"):
        kind, _, folder = model.partition(":")
        rows.append(Row(name, kind, folder))
    unknown = [row.generator for row in rows if row.generator not in known]
    require(not unknown, "generators", f"be out of {', '.join(known)}", ", ".join(unknown), "Check the names.")
    require(options.long_side >= 32, "long_side", "be at least 32 pixels", options.long_side, "512 is usual.")
    return rows


def _named(option: str, entries: Sequence[str], form: str) -> list[tuple[str, str]]:
    """(name, value) of entries of the form NAME=VALUE."""
    for entry in entries:
        name, _, value = entry.partition("=")
        good = bool(name and value) and (":" in value or ":" not in form)
        require(good, option, f"be {form}", entry, f"For example {option} FVGen={form.partition('=')[2]}.")
    return [(name, value) for name, _, value in (entry.partition("=") for entry in entries)]


def _config(options: EvaluateViews, name: str, digest: str) -> dict[str, Any]:
    kept = {key: getattr(options, key) for key in ("protocol", "views", "long_side", "geometry", "metrics", "seed")}
    return {**kept, "row": name, "scene": digest, "version": fvgen.__version__}


class _Scene:
    """A prepared scene at the working size; its geometry is made once, for all generators."""

    def __init__(self, prepared: PreparedScene, options: EvaluateViews) -> None:
        train, test = train_and_test(prepared.folder, options.long_side)
        device = default_device()
        self.train, self.test = train.to(device), test.to(device)
        self.names = [f"{i:06d}" for i in range(len(test))]
        self.frames_folder = options.output / "frames" / prepared.folder.name
        self._provider = options.geometry
        self._geometry: SceneGeometry | None = None
        self.geometry_seconds = 0.0

    def geometry(self) -> SceneGeometry:
        if self._geometry is None:
            start = time.perf_counter()
            geometry = GEOMETRY_PROVIDERS[self._provider]().reconstruct(self.train)  # type: ignore[index]
            self._geometry = with_background(self.train, geometry)
            synchronize(self.train.photos.device)
            self.geometry_seconds = time.perf_counter() - start
        return self._geometry

    def pictures(self, rows: Sequence[str]) -> dict[str, list[np.ndarray]]:
        """Some views for the grid: the photos, and what is stored of each row."""
        chosen = np.linspace(0, len(self.test) - 1, min(SHOWN, len(self.test))).round().astype(int).tolist()
        shown = {"photo": [image_bytes(self.test.photos[i]) for i in chosen]}
        for row in rows:
            files = [self.frames_folder / row / f"{self.names[i]}.png" for i in chosen]
            if all(file.is_file() for file in files):
                shown[row] = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        return shown


def _run(scene: _Scene, row: Row, options: EvaluateViews, score: Callable[..., Scores]) -> dict[str, Any]:
    """Draw the held-out views, store them, score them."""
    geometry = scene.geometry()
    needs = row.generator in NEEDS_MODEL
    generator = VIEW_GENERATORS[row.generator](**({"model": row.model} if needs else {}))
    if needs:
        generator.pipeline  # type: ignore[attr-defined]  # noqa: B018  # loading is not timed
    frames = torch.zeros_like(scene.test.photos)
    start = time.perf_counter()
    for path, members in held_out_clips(scene.train, scene.test):
        views = generator.generate(scene.train, geometry, path, options.seed)
        frames[members] = views.rgb[1:-1]
    synchronize(frames.device)
    seconds = {"seconds_geometry": scene.geometry_seconds, "seconds_generation": time.perf_counter() - start}
    with whole_folder(scene.frames_folder / row.name) as folder:
        for name, frame in zip(scene.names, frames, strict=True):
            Image.fromarray(image_bytes(frame)).save(folder / f"{name}.png", "PNG")
    masks = list(scene.test.valid[:, None].cpu())
    scores = score(list(frames.cpu()), list(scene.test.photos.cpu()), scene.names, where=masks)
    return {**scores.as_json(), "seconds": seconds}


def _compare(scene: _Scene, place: Path, score: Callable[..., Scores]) -> dict[str, Any]:
    """Score frames that another program made; the photos are brought to their size."""
    drawn = read_frames(place)
    photos = scene.test.photos.cpu()
    real: dict[str, Frame] = {name: partial(photos.__getitem__, i) for i, name in enumerate(scene.names)}
    pairs, rule = match_frames(drawn, real, place, Path("the held-out photos"))
    pictures = [drawn[name]() for name, _ in pairs]
    references = [covering(real[name](), picture) for (_, name), picture in zip(pairs, pictures, strict=True)]
    scores = score(pictures, references, [name for _, name in pairs])
    size = f"{pictures[0].shape[-1]}x{pictures[0].shape[-2]}"
    stated = {"matched_by": rule, "references": f"scaled to cover {size}, centre kept"}
    return {**scores.as_json(), "settings": scores.settings | stated}


def covering(photo: Tensor, picture: Tensor) -> Tensor:
    """The photo [3, H, W] scaled to cover the picture's size, its centre kept: how those programs prepare photos."""
    height, width = picture.shape[-2:]
    cover = Cover.of((photo.shape[-2], photo.shape[-1]), (height, width))
    scaled = torch.nn.functional.interpolate(
        photo[None], (cover.height, cover.width), mode="bilinear", antialias=True, align_corners=False
    )[0]
    return scaled[:, cover.top : cover.top + height, cover.left : cover.left + width].clamp(0, 1)


def _keep(
    report: EvaluationReport, found: dict[str, dict[str, float]], scene: str, row: str, result: dict[str, Any]
) -> None:
    if "failed" in result:
        report.notes.append(f"{scene}, {row} failed: {result['failed']}")
    else:
        found[row] = {**result["mean"], **result.get("seconds", {})}
        report.facts.setdefault("settings", result["settings"])


def _finish(report: EvaluationReport, published: str | None, options: EvaluateViews) -> None:
    require(any(report.rows.values()), "evaluation", "score something", "nothing", " ".join(report.notes[-2:]))
    report.rows["mean"] = mean_over_scenes(report.rows)
    if published is not None:
        report.published = published_table(published).select(scene="mean")
    if "fid" in options.metrics:
        report.notes.append("FID of so few pictures is biased upwards: compare equal counts only.")
    report.facts["version"] = fvgen.__version__
