"""Speed and gradients of the CPU splat rasterizer, projection, harmonics and sorting included, on one core.

Scene: points of a bumpy surface that fills a little more than the image, each a Gaussian as wide as the mean distance
to its three nearest neighbours (log-normal spread 0.35, flatter along one axis, random rotations), opacities
sigmoid(N(0.5, 1.5)), random harmonics of degree 3. About 2.5 tiles per Gaussian at 20k, 3.4 at 50k.

    python benchmarks/rasterizer.py --output rasterizer.json
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import tyro
from scipy.spatial import cKDTree
from torch import Tensor

from fvgen.rendering.splat_rasterizer import SplatRasterizer, SplatRender, resolve
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
    # JSON file for the results
    repeats: int = 40
    # timed runs per size; the median and the fastest are reported
    torch_repeats: int = 2
    # timed runs of the per-tile torch rasterizer
    startup: bool = False
    # only time the first rasterize call and its backward pass in this process (used for the start-up figures)


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


def forward_backward(
    rasterizer: SplatRasterizer, gaussians: list[Tensor], cameras: Cameras, weights: Tensor | None = None
) -> tuple[float, float, list[Tensor]]:
    """Milliseconds forward and backward, and the gradients of the Gaussians for a weighted sum of the image."""
    leaves = [t.detach().requires_grad_() for t in gaussians]
    start = time.perf_counter()
    render: SplatRender = rasterizer.rasterize(*leaves, cameras, SH_DEGREE)
    middle = time.perf_counter()
    grad = torch.ones_like(render.rgb) if weights is None else weights.to(render.rgb)
    before_backward = time.perf_counter()
    render.rgb.backward(grad)
    end = time.perf_counter()
    return 1e3 * (middle - start), 1e3 * (end - before_backward), [t.grad for t in leaves if t.grad is not None]


def gradient_error(gaussians: list[Tensor], cameras: Cameras) -> dict[str, float]:
    """Largest difference to float64 autograd per tensor, relative to the largest gradient in it."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(1, cameras.height, cameras.width, 3, generator=generator)
    *_, ours = forward_backward(resolve("numba", "cpu"), gaussians, cameras, weights)
    *_, exact = forward_backward(
        resolve("torch", "cpu"), [t.double() for t in gaussians], cameras.to(torch.float64), weights
    )
    return {
        name: float((a - b).abs().max() / b.abs().max()) for name, a, b in zip(NAMES, ours, exact, strict=True)
    }  # fmt: skip


def measure_size(count: int, width: int, height: int, options: Options) -> dict[str, float]:
    """Times of numba and torch at one size."""
    gaussians, cameras = make_scene(count, width, height)
    numba_times = [
        forward_backward(resolve("numba", "cpu"), gaussians, cameras)[:2] for _ in range(options.repeats + 3)
    ]
    torch_times = [
        forward_backward(resolve("torch", "cpu"), gaussians, cameras)[:2] for _ in range(options.torch_repeats)
    ]
    forward, backward = zip(*numba_times[3:], strict=True)
    slow = min(sum(pair) for pair in torch_times)
    return {
        "gaussians": count, "width": width, "height": height,
        "forward_ms": statistics.median(forward), "forward_min_ms": min(forward),
        "backward_ms": statistics.median(backward), "backward_min_ms": min(backward),
        "torch_ms": slow, "times_torch": slow / statistics.median(f + b for f, b in numba_times[3:]),
        "times_torch_fastest": slow / min(f + b for f, b in numba_times[3:]),
    }  # fmt: skip


def measure_startup() -> dict[str, float]:
    """Seconds that the first forward and backward pass of a new process take, with an empty and a filled kernel cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, str(Path(__file__).resolve()), "--startup"]
        runs = [
            float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
            for _ in range(3)
        ]
    return {"cold_s": runs[0], "warm_s": min(runs[1:])}


def first_call_seconds() -> float:
    """Importing numba included, importing torch not."""
    gaussians, cameras = make_scene(1000, 64, 48)
    start = time.perf_counter()
    forward_backward(resolve("numba", "cpu"), gaussians, cameras)
    return time.perf_counter() - start


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    packages = {name: version(name) for name in ("torch", "numba", "numpy")}
    load = f"{os.getloadavg()[0]:.1f}"
    return {"cpu": model or platform.processor(), "cores": str(os.cpu_count()), "load_average": load, **packages}


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    torch.set_num_threads(1)
    if options.startup:
        print(first_call_seconds())
        return
    sizes = []
    print("Gaussians  image     forward ms (min)  bar   backward ms (min)  bar   x torch per tile (fastest)")
    for count, width, height, forward_bar, backward_bar in SIZES:
        row = measure_size(count, width, height, options)
        sizes.append({**row, "forward_bar_ms": forward_bar, "backward_bar_ms": backward_bar})
        print(
            f"{count:9d}  {width}x{height}  {row['forward_ms']:7.1f} ({row['forward_min_ms']:5.1f})  {forward_bar:5.0f}"
            f"  {row['backward_ms']:9.1f} ({row['backward_min_ms']:5.1f})  {backward_bar:5.0f}"
            f"  {row['times_torch']:9.0f} ({row['times_torch_fastest']:.0f}), bar {FASTER_THAN_TORCH:.0f}"
        )
    errors = gradient_error(*make_scene(5_000, 160, 96))
    print("Gradients against float64 autograd, 5000 Gaussians at 160x96, relative to the largest of each tensor:")
    print("  " + "  ".join(f"{name} {error:.1e}" for name, error in errors.items()) + f"  (bar {GRADIENT_BAR:.0e})")
    startup = measure_startup()
    print(f"First call and backward: cold {startup['cold_s']:.1f} s (bar {COLD_BAR_S:.0f}), ", end="")
    print(f"warm {startup['warm_s']:.2f} s (bar {WARM_BAR_S:.0f})")
    if options.output:
        result = {
            "machine": machine(), "options": {**asdict(options), "output": str(options.output)},
            "sizes": sizes, "gradient_error": errors, "startup": startup,
        }  # fmt: skip
        temporary = options.output.with_name(options.output.name + ".tmp")
        temporary.write_text(json.dumps(result, indent=1))
        temporary.replace(options.output)


if __name__ == "__main__":
    main(tyro.cli(Options))
