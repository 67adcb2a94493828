"""Geometry from the train photos alone, measured in the held-out views.

Per capture: how much of a held-out view the cloud covers and how well it does there, seconds per train photo; and
whole-frame PSNR of `warp` frames beside the raw render (black holes) and the render inpainted by OpenCV (Telea).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: seconds are those of one core

import resource
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
import tyro
from held_out_photos import chosen_captures, known_mean, mean_psnr
from inpainting import inpaint
from PIL import Image
from reporting import settings_of, write_json, write_picture
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from fvgen.checks import InputError, require
from fvgen.data.working_size import load_capture
from fvgen.devices import default_device, is_gpu
from fvgen.generation.warp import WarpViews
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.geometry.trajectory import path_at
from fvgen.metrics import fit_affine_colour
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import Capture, PointRender, SceneGeometry

BARS = {"herzjesu": (0.55, 24.5), "fox": (0.45, 19.0)}
"""Capture -> coverage and PSNR to reach."""
WARP_BAR = 1.5
"""Gain in dB that `warp` is to have over inpainting, on the mean."""
COLUMNS = {
    "coverage": "coverage",
    "sparse_coverage": "SfM points",
    "psnr": "PSNR there",
    "psnr_affine": "affine",
    "seconds_per_view": "s / view",
    "raw": "raw",
    "inpainted": "inpainted",
    "warp": "warp",
    "warp_covered": "warp, covered",
    "warp_holes": "warp, holes",
}


@dataclass
class Options:
    """Measure geometry on a folder of captures."""

    captures: Path
    """Folder of captures, each with train_filenames and test_filenames."""
    output: Path
    """JSON file to write."""
    only: list[str] = field(default_factory=list)
    """Names of the captures to run; all by default."""
    geometry: Literal["auto", "capture-depth", "plane-sweep", "dust3r"] = "auto"
    """Geometry provider to measure."""
    without_sparse: bool = False
    """Leave the captures' sparse points away: depth ranges from the cameras."""
    long_side: int = 480
    """Longest side of the working size in pixels."""
    point_pixels: float = 1.0
    """Radius of a rendered point in pixels."""
    pictures: Path | None = None
    """Folder for a picture per capture: photos over depth, held-out photos over renders over warps."""


def main(options: Options) -> None:
    """Run, print the table, write the JSON.

    Raises:
        InputError: an option or a capture cannot be used; raised before work starts.
    """
    console = Console(width=140)
    require(options.long_side >= 16, "--long-side", "be at least 16 pixels", options.long_side, "480 is usual.")
    require(options.point_pixels > 0, "--point-pixels", "be positive", options.point_pixels, "1 is usual.")
    require(not options.output.is_dir(), "--output", "be a JSON file", options.output, "Name a file in that folder.")
    names = chosen_captures(options.captures, options.only)
    results = {name: measure(options, name) for name in track(names, description="captures", console=console)}
    mean = {key: known_mean([result[key] for result in results.values()]) for key in COLUMNS}
    table = Table("capture", *COLUMNS.values(), title=f"{options.geometry}, held-out views")
    for name, result in {**results, "mean": mean}.items():
        table.add_row(name, *(_cell(key, result[key]) for key in COLUMNS))
    console.print(table)
    for name, (coverage, quality) in BARS.items():
        if name in results:
            reached = _at_least(results[name]["coverage"], coverage) and _at_least(results[name]["psnr"], quality)
            console.print(f"{name}: bar {coverage:.0%} at {quality} dB {'reached' if reached else 'NOT reached'}")
    warp, inpainted = mean["warp"], mean["inpainted"]
    assert warp is not None and inpainted is not None  # whole frames have pixels
    gain = warp - inpainted
    console.print(
        f"warp over inpainting: {gain:+.2f} dB, bar +{WARP_BAR} {'reached' if gain >= WARP_BAR else 'NOT reached'}"
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    settings = settings_of(options)
    write_json(options.output, {"captures": results, "mean": mean, "peak_gib": peak, "settings": settings})


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if "coverage" in key else f"{value:.2f}"


def _at_least(value: float | None, bar: float) -> bool:
    return value is not None and value >= bar


def measure(options: Options, name: str) -> dict[str, float | None]:
    """All figures of one capture; PSNRs are means over the held-out views."""
    device = default_device()
    train, _ = load_capture(options.captures / name, long_side=options.long_side)
    test, _ = load_capture(options.captures / name, long_side=options.long_side, split="test")
    train, test = train.to(device), test.to(device)
    sparse = train.sparse
    if options.without_sparse:
        train = replace(train, sparse=None)
    # on one thread of a CPU, processor time is what other programs on the machine do not change
    clock = time.perf_counter if is_gpu(device) else time.process_time
    start = clock()
    geometry = GEOMETRY_PROVIDERS[options.geometry]().reconstruct(train)
    len(geometry.points.xyz.cpu())  # waits for a GPU
    seconds = (clock() - start) / len(train)

    renderer = resolve("front")
    radius = radius_of_pixels(options.point_pixels, test.cameras.height, test.cameras.width)
    render = renderer.render(geometry.points, test.cameras, radius)
    covered = render.depth > 0
    result: dict[str, float | None] = {
        "coverage": float(covered.float().mean()),
        "seconds_per_view": seconds,
        "points": len(geometry.points),
    }
    result["sparse_coverage"] = 0.0
    if sparse is not None:
        result["sparse_coverage"] = float((renderer.render(sparse, test.cameras, radius).depth > 0).float().mean())
    result["psnr"] = mean_psnr(render.rgb, test.photos, covered)
    fitted = [
        fit_affine_colour(rgb, photo, where) if where.any() else rgb
        for rgb, photo, where in zip(render.rgb, test.photos, covered, strict=True)
    ]
    result["psnr_affine"] = mean_psnr(torch.stack(fitted), test.photos, covered)
    warp = WarpViews().generate(train, geometry, path_at(train.cameras, test.cameras))
    everywhere = torch.ones_like(covered)
    result["raw"] = mean_psnr(render.rgb, test.photos, everywhere)
    result["inpainted"] = mean_psnr(inpaint(render), test.photos, everywhere)
    result["warp"] = mean_psnr(warp.rgb, test.photos, everywhere)
    result["warp_covered"] = mean_psnr(warp.rgb, test.photos, covered)
    result["warp_holes"] = mean_psnr(warp.rgb, test.photos, ~covered)
    if options.pictures:
        _picture(options.pictures / f"{name}.png", train, geometry, test, render, warp.rgb)
    return result


def _picture(
    path: Path, train: Capture, geometry: SceneGeometry, test: Capture, render: PointRender, warp: Tensor, most: int = 5
) -> None:
    """Train photos and their depth, held-out photos, renders and warps, as rows of at most ``most``."""
    rows: list[Any] = [train.photos, _depth_colours(geometry.depths), test.photos, render.rgb, warp]
    height, width = train.photos.shape[-2:]
    sheet = np.zeros((height * len(rows), width * most, 3), np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row[:most]):
            pixels = (picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8)
            sheet[r * height : (r + 1) * height, c * width : (c + 1) * width] = pixels
    write_picture(path, np.asarray(Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2))))


def _depth_colours(depths: Tensor) -> Tensor:
    """[V, 3, H, W] inverse depth from blue (far) to red (near), black where unknown."""
    inverse = torch.where(depths > 0, 1 / depths.clamp_min(1e-12), 0.0).cpu().numpy()
    pictures = []
    for one in inverse:
        known = one > 0
        low, high = np.percentile(one[known], [1, 99]) if known.any() else (0.0, 1.0)
        scaled = ((one - low) / max(high - low, 1e-12)).clip(0, 1)
        coloured = cv2.applyColorMap((scaled * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        pictures.append(torch.from_numpy(coloured * known[..., None]).permute(2, 0, 1) / 255)
    return torch.stack(pictures)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
