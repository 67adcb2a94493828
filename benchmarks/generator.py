"""What the generators draw, beside held-out photos: real clips between train photos, and procedural ones.

    python benchmarks/generator.py --captures CAPTURES --output generator.json

Held-out photos between the same two train photos make one clip with them. All methods get the same geometry and draw
the same cameras; the point render decides what is covered and what is a hole.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import tyro
from calibration import Calibration
from held_out_clips import measure_clips, open_clips
from held_out_photos import chosen_captures, known_mean, mean_psnr, sharpness
from inpainting import inpaint
from reporting import settings_of, write_json, write_picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from fvgen.checks import InputError, require
from fvgen.devices import default_device, synchronize
from fvgen.evaluation.held_out import held_out_clips, train_and_test
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.generation.view_generator import ViewGenerator
from fvgen.generation.warp import WarpViews
from fvgen.geometry.background import with_background
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.models.find import TINY
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import CameraPath, Capture, SceneGeometry

Method = Literal["render", "inpaint", "warp", "teacher", "student"]
METHODS: tuple[Method, ...] = get_args(Method)
SCORES = ("psnr", "covered", "holes", "sharpness", "seconds")
"""PSNR in dB of the whole frame, of pixels where points are seen and of the others; gradient energy over the truth's;
seconds a frame."""
SHEET_FRAMES = 4

Draw = Callable[[CameraPath], tuple[Tensor, Tensor | None]]


@dataclass
class Options:
    """Compare the generators on captures."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write; a plot of errors over confidence goes beside it."""
    pictures: Path | None = None
    """Folder for a contact sheet of each capture; none is drawn by default, since many captures may not be shown."""
    student: str = TINY
    """Pipeline folder; the bundled student by default."""
    teacher: str = TINY
    """Pipeline folder; the bundled teacher by default."""
    teacher_steps: int = 25
    """Sampling steps of the teacher."""
    methods: list[Method] = field(default_factory=lambda: list(METHODS))
    """Methods to run."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    long_side: int = 256
    """Longest side of the photos and of what is drawn, in pixels."""
    seed: int = 0
    """Random seed of the diffusion models' noise."""
    clips: Path | None = None
    """Folder of prepared clips to measure on, too; no network may have been trained on them."""
    clips_count: int = 40
    """Number of prepared clips to measure on."""
    clips_side: int = 160
    """Height and width of the window that is cut from each prepared clip, in pixels."""


def main(options: Options) -> None:
    """Run, print the table, write the JSON and what is to be shown.

    Raises:
        InputError: an option or a capture cannot be used; raised before anything is drawn.
    """
    console = Console(width=120)
    _check_numbers(options)
    names = chosen_captures(options.captures, options.only)
    if options.clips is not None:
        open_clips(options.clips, options.clips_side)  # refuses them before work
    networks = {
        "student": DiffusionViews("student", options.student, size="working"),
        "teacher": DiffusionViews("teacher", options.teacher, size="working", steps=options.teacher_steps),
    }
    calibration = Calibration()
    results = {
        name: measure(options, name, networks, calibration)
        for name in track(names, description="captures", console=console)
    }
    mean: dict[str, dict[str, float | None]] = {
        method: {score: known_mean([result[method][score] for result in results.values()]) for score in SCORES}
        for method in options.methods
    }
    tables: dict[str, dict[str, dict[str, float | None]]] = {**results, "mean": mean}
    if options.clips is not None:
        apart = measure_clips(
            options.clips, options.clips_count, options.methods, networks, options.clips_side, options.seed
        )
        tables["prepared clips"] = apart
    for name, scores in tables.items():
        console.print(_table(name, scores))
    settings = settings_of(options)
    figures = {"captures": results, "mean": mean, "calibration": calibration.summary(), "settings": settings}
    if options.clips is not None:
        figures["prepared_clips"] = tables["prepared clips"]
    write_json(options.output, figures)
    calibration.plot(options.output.with_name(f"{options.output.stem}_calibration.png"))


def _table(title: str, scores: dict[str, dict[str, float | None]]) -> Table:
    table = Table("method", "PSNR", "covered", "holes", "sharpness", "seconds / frame", title=title)
    for method, score in scores.items():
        table.add_row(method, *("-" if score[key] is None else f"{score[key]:.2f}" for key in SCORES))
    return table


def _check_numbers(options: Options) -> None:
    require(options.long_side >= 16, "--long-side", "be at least 16 pixels", options.long_side, "256 is usual.")
    require(options.teacher_steps >= 1, "--teacher-steps", "be at least 1", options.teacher_steps, "25 is usual.")
    require(options.clips_count >= 1, "--clips-count", "be at least 1", options.clips_count, "40 is usual.")
    require(len(options.methods) > 0, "--methods", "name a method", "none", f"Choose out of {', '.join(METHODS)}.")
    require(not options.output.is_dir(), "--output", "be a JSON file", options.output, "Name a file in that folder.")


def measure(
    options: Options, name: str, networks: dict[str, DiffusionViews], calibration: Calibration
) -> dict[str, dict[str, float | None]]:
    """All methods on one capture: means over the held-out photos."""
    device = default_device()
    train, test = (part.to(device) for part in train_and_test(options.captures / name, options.long_side))
    geometry = with_background(train, GEOMETRY_PROVIDERS["auto"]().reconstruct(train))
    clips = held_out_clips(train, test)
    front, radius = resolve("front"), radius_of_pixels(1.0, test.cameras.height, test.cameras.width)
    seen = front.render(geometry.points, test.cameras, radius).depth > 0
    draws = _draws(train, geometry, networks, options.seed)
    real = test.valid[:, None]  # photos have no pixels beyond masks and straightened borders
    scores: dict[str, dict[str, float | None]] = {}
    pictures = [test.photos]
    for method in options.methods:
        if method in networks:
            networks[method].pipeline.to(device)  # loading is not timed
        synchronize(device)
        start = time.perf_counter()
        frames, confidences = torch.zeros_like(test.photos), []
        for path, members in clips:
            rgb, confidence = draws[method](path)
            frames[members] = rgb[1:-1]
            confidences.append(confidence if confidence is None else confidence[1:-1])
        synchronize(device)
        seconds = (time.perf_counter() - start) / len(frames)
        scores[method] = {
            "psnr": mean_psnr(frames, test.photos, real),
            "covered": mean_psnr(frames, test.photos, seen & real),
            "holes": mean_psnr(frames, test.photos, ~seen & real),
            "sharpness": sharpness(frames, test.photos),
            "seconds": seconds,
        }
        pictures.append(frames)
        for confidence, (_, members) in zip(confidences, clips, strict=True):
            if confidence is not None:
                calibration.add(method, confidence, frames[members], test.photos[members], real[members])
    if options.pictures is not None:
        _sheet(pictures, options.pictures / f"{options.output.stem}_{name}.jpg")
    return scores


def _draws(
    capture: Capture, geometry: SceneGeometry, networks: dict[str, DiffusionViews], seed: int
) -> dict[str, Draw]:
    """Method -> frames [F, 3, H, W] of a clip, and their confidence [F, 1, H, W] where it has one."""
    front = resolve("front")

    def render(path: CameraPath):
        radius = radius_of_pixels(1.0, path.cameras.height, path.cameras.width)
        return front.render(geometry.points, path.cameras, radius)

    def generator(made: ViewGenerator) -> Draw:
        def draw(path: CameraPath) -> tuple[Tensor, Tensor]:
            views = made.generate(capture, geometry, path, seed)
            return views.rgb, views.pixel_confidence

        return draw

    return {
        "render": lambda path: (render(path).rgb, None),
        "inpaint": lambda path: (inpaint(render(path)), None),
        "warp": generator(WarpViews()),
        **{name: generator(network) for name, network in networks.items()},
    }


def _sheet(rows: list[Tensor], path: Path) -> None:
    """Held-out photos over what each method drew in their place."""
    chosen = np.linspace(0, len(rows[0]) - 1, min(SHEET_FRAMES, len(rows[0]))).round().astype(int).tolist()
    sheet = torch.cat([torch.cat(list(row[chosen]), dim=2) for row in rows], dim=1)
    write_picture(path, (255 * sheet.clamp(0, 1)).byte().permute(1, 2, 0).cpu().numpy())


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
