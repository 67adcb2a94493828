"""Speed and gradients of the CPU splat rasterizer, projection, harmonics and sorting included, on one core.

Scene: points of a bumpy surface that fills a little more than the image, each a Gaussian as wide as the mean distance
to its three nearest neighbours (log-normal spread 0.35, flatter along one axis, random rotations), opacities
sigmoid(N(0.5, 1.5)), random harmonics of degree 3. About 2.5 tiles per Gaussian at 20k, 3.4 at 50k.

    python benchmarks/rasterizer.py --output rasterizer.json
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from reporting import write_json
from scipy.spatial import cKDTree
from torch import Tensor

from fvgen.rendering.splat_rasterizer import SplatRasterizer, resolve
from fvgen.types import Cameras

SH_DEGREE = 3
# Gaussians, width, height, bars in ms for forward and backward
SIZES = ((20_000, 256, 160, 20.0, 25.0), (50_000, 480, 320, 60.0, 70.0))
FASTER_THAN_TORCH = 15.0
GRADIENT_BAR = 1e-4
COLD_BAR_S, WARM_BAR_S = 15.0, 1.0
NAMES = ("means", "quats", "scales", "opacities", "sh")


@dataclass
class Options:
    """Benchmark of the numba splat rasterizer."""

    output: Path | None = None
    """JSON file to write the results to."""
    repeats: int = 40
    """Timed runs per size; the median and the fastest are reported."""
    torch_repeats: int = 2
    """Timed runs of the per-tile torch rasterizer."""
    startup: bool = False
    """Time only the first rasterize call and its backward pass in this process, as the start-up figures do."""


def make_scene(count: int, width: int, height: int, seed: int = 0) -> tuple[list[Tensor], Cameras]:
    """Gaussians as `SplatRasterizer.rasterize` takes them (means, quats, scales, opacities, sh), and one camera."""
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1.1, 1.1, (2, count))
    z = 3 + 0.5 * np.sin(3 * u) * np.cos(4 * v) + 0.02 * rng.standard_normal(count)
    focal = 0.9 * width
    means = np.stack([u * width / 2 / focal * z, v * height / 2 / focal * z, z], 1)
    spacing = cKDTree(means).query(means, 4)[0][:, 1:].mean(1)
    scales = spacing[:, None] * np.exp(rng.normal(0, 0.35, (count, 3))) * np.array([1, 1, 0.6])
    opacities = 1 / (1 + np.exp(-rng.normal(0.5, 1.5, count)))
    sh = rng.normal(0, 0.1, (count, (SH_DEGREE + 1) ** 2, 3))
    sh[:, 0] = rng.normal(0, 1, (count, 3))
    K = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    gaussians = (means, rng.standard_normal((count, 4)), scales, opacities, sh)
    return [torch.tensor(t, dtype=torch.float32) for t in gaussians], Cameras(torch.eye(4)[None], K, height, width)


@dataclass(frozen=True)
class Times:
    """Milliseconds of one pass. On one thread wall and CPU time agree when the machine has nothing else to do."""

    forward: float
    backward: float
    forward_cpu: float
    backward_cpu: float


def forward_backward(
    rasterizer: SplatRasterizer, gaussians: list[Tensor], cameras: Cameras, weights: Tensor | None = None
) -> tuple[Times, list[Tensor]]:
    """Render and differentiate a weighted sum of the image; the gradients are those of the Gaussians."""
    leaves = [t.detach().requires_grad_() for t in gaussians]
    means, quats, scales, opacities, sh = leaves
    marks = [_clocks()]
    render = rasterizer.rasterize(means, quats, scales, opacities, sh, cameras, SH_DEGREE)
    marks.append(_clocks())
    grad = torch.ones_like(render.rgb) if weights is None else weights.to(render.rgb)
    marks.append(_clocks())
    render.rgb.backward(grad)
    marks.append(_clocks())
    spans = [1e3 * (marks[end][clock] - marks[end - 1][clock]) for clock in (0, 1) for end in (1, 3)]
    return Times(*spans), [t.grad for t in leaves if t.grad is not None]


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def gradient_error(gaussians: list[Tensor], cameras: Cameras) -> dict[str, float]:
    """Largest difference to float64 autograd per tensor, relative to the largest gradient in it."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(1, cameras.height, cameras.width, 3, generator=generator)
    _, ours = forward_backward(resolve("numba", "cpu"), gaussians, cameras, weights)
    _, exact = forward_backward(
        resolve("torch", "cpu"), [t.double() for t in gaussians], cameras.to(torch.float64), weights
    )
    return {name: float((a - b).abs().max() / b.abs().max()) for name, a, b in zip(NAMES, ours, exact, strict=True)}


def measure_size(count: int, width: int, height: int, options: Options) -> dict[str, float]:
    """Times of numba and torch at one size: medians, and the fastest run."""
    gaussians, cameras = make_scene(count, width, height)
    fast = [forward_backward(resolve("numba", "cpu"), gaussians, cameras)[0] for _ in range(options.repeats + 3)][3:]
    slow = [forward_backward(resolve("torch", "cpu"), gaussians, cameras)[0] for _ in range(options.torch_repeats)]
    row: dict[str, float] = {"gaussians": count, "width": width, "height": height}
    for name in Times.__dataclass_fields__:
        values = [getattr(times, name) for times in fast]
        row[f"{name}_ms"], row[f"{name}_min_ms"] = statistics.median(values), min(values)
    torch_cpu, numba_cpu = (min(t.forward_cpu + t.backward_cpu for t in runs) for runs in (slow, fast))
    return {**row, "torch_cpu_ms": torch_cpu, "times_torch": torch_cpu / numba_cpu}


def measure_startup() -> dict[str, float]:
    """Seconds for the first forward and backward pass of a new process, with an empty and a filled kernel cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, str(Path(__file__).resolve()), "--startup"]
        runs = [
            json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
    (cold, cold_cpu), (warm, warm_cpu) = runs[0], min(runs[1:])
    return {"cold_s": cold, "cold_cpu_s": cold_cpu, "warm_s": warm, "warm_cpu_s": warm_cpu}


def first_call_seconds() -> tuple[float, float]:
    """Wall and CPU time of this process's first pass; importing numba counts, importing torch does not."""
    gaussians, cameras = make_scene(1000, 64, 48)
    start = _clocks()
    forward_backward(resolve("numba", "cpu"), gaussians, cameras)
    end = _clocks()
    return end[0] - start[0], end[1] - start[1]


def print_sizes(sizes: list[dict[str, float]]) -> None:
    """One line per size and direction."""
    print(f"{'Gaussians':>9} {'image':>8} {'':8} {'median':>7} {'min':>6} {'CPU median':>10} {'min':>6} {'bar':>5}  ms")
    for row in sizes:
        for name in ("forward", "backward"):
            figures = (row[f"{name}_ms"], row[f"{name}_min_ms"], row[f"{name}_cpu_ms"], row[f"{name}_cpu_min_ms"])
            image = f"{row['width']}x{row['height']}"
            print(
                f"{row['gaussians']:9d} {image:>8} {name:8} {figures[0]:7.1f} {figures[1]:6.1f} {figures[2]:10.1f}"
                f" {figures[3]:6.1f} {row[name + '_bar_ms']:5.0f}"
            )
        print(
            f"{'':9} {'':8} torch per tile takes {row['times_torch']:.0f} times as long (bar {FASTER_THAN_TORCH:.0f})"
        )


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    torch.set_num_threads(1)
    if options.startup:
        print(json.dumps(first_call_seconds()))
        return
    sizes = [
        {**measure_size(count, width, height, options), "forward_bar_ms": forward_bar, "backward_bar_ms": backward_bar}
        for count, width, height, forward_bar, backward_bar in SIZES
    ]
    print_sizes(sizes)
    errors = gradient_error(*make_scene(5_000, 160, 96))
    print("Gradients against float64 autograd, 5000 Gaussians at 160x96, relative to the largest of each tensor:")
    print("  " + "  ".join(f"{name} {error:.1e}" for name, error in errors.items()) + f"  (bar {GRADIENT_BAR:.0e})")
    startup = measure_startup()
    for name, bar in (("cold", COLD_BAR_S), ("warm", WARM_BAR_S)):
        wall, cpu = startup[f"{name}_s"], startup[f"{name}_cpu_s"]
        print(f"First forward and backward, {name} cache: {wall:.2f} s, CPU {cpu:.2f} s (bar {bar:.0f})")
    if options.output:
        about = {"scene": __doc__, "repeats": options.repeats}
        write_json(options.output, {**about, "sizes": sizes, "gradient_error": errors, "startup": startup})


if __name__ == "__main__":
    main(tyro.cli(Options))
