"""What the GPU at hand does: rasterizer parity, seconds and memory of a full-size student's clip and of its training.

    python scripts/gpu_check.py --output gpu.json --minutes 10

Parts run one after the other, the most telling first, each in a process of its own with its own limit; what a part has
found is written before the next one begins, and kept where a part is cut off. Weights are random: neither speed nor
memory depends on them. Without a GPU it prints that and exits with 0. --needs lists what a part needs beside torch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fvgen.checks import InputError
from fvgen.devices import default_device, default_dtype, gpu_name, is_gpu

Row = dict[str, Any]
_NETWORKS = "diffusers transformers safetensors accelerate"


@dataclass(frozen=True)
class Part:
    """A part of the check."""

    run: Callable[[argparse.Namespace, torch.device], Iterator[tuple[Row, str]]]
    """Yields rows and a line about each."""
    seconds: float
    """Its limit."""
    needs: str
    """Packages beside torch and numpy."""


def arguments() -> argparse.Namespace:
    """Command line; argparse, because tyro comes with Nerfstudio, which this does not need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to.")
    parser.add_argument("--minutes", type=float, help="Time for all parts; by default each part's own limit.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="Parts to run; by default all.")
    parser.add_argument("--needs", action="store_true", help="List the packages of each part and stop.")
    parser.add_argument("--device", help="Torch device; by default the GPU.")
    parser.add_argument("--tiny", action="store_true", help="Tiny networks and clips: to try the script, not the GPU.")
    parser.add_argument("--repeats", type=int, default=5, help="Timed runs per figure; the median counts.")
    parser.add_argument("--compile-backend", default="inductor", help="Backend of torch.compile.")
    parser.add_argument("--rows", type=Path, help="File that the one part named adds its rows to, a line of JSON each.")
    return parser.parse_args()


def parity(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[Row, str]]:
    """Errors of every rasterizer that runs here against the float64 oracle."""
    from fvgen.evaluation.rasterizer_parity import TOLERANCE, parity_errors

    for name, where in (("torch", device), ("numba", torch.device("cpu")), ("gsplat", device)):
        if name == "gsplat" and not is_gpu(device):
            continue
        try:
            errors = parity_errors(name, where)
        except (InputError, RuntimeError, ImportError) as error:
            text = str(error)
            yield {"rasterizer": name, "error": text, "passed": False}, f"rasterizer {name}: FAILED, {text}"
            continue
        worst = max(errors, key=lambda key: errors[key])
        passed = errors[worst] <= TOLERANCE
        verdict = "equal" if passed else "NOT EQUAL"
        line = f"rasterizer {name}: {verdict}, largest error {errors[worst]:.1e} in {worst} ({TOLERANCE:.0e} allowed)"
        yield {"rasterizer": name, "largest_errors": errors, "passed": passed}, line


def clips(modes: tuple[str, ...], options: argparse.Namespace, device: torch.device) -> Iterator[tuple[Row, str]]:
    """Seconds and memory of clips in these modes."""
    from fvgen.evaluation.timing.clips import matmul_tflops
    from fvgen.evaluation.timing.gpu_clips import ClipTrials, described, measure_clips

    ceiling = matmul_tflops(device, default_dtype(device), 256 if options.tiny else 8192)
    trials = ClipTrials(device, ceiling, options.tiny, options.repeats, options.compile_backend, modes)
    for row in measure_clips(trials):
        yield {**row, "matmul_tflops": ceiling}, described(row)


def training(stage: str, options: argparse.Namespace, device: torch.device) -> Iterator[tuple[Row, str]]:
    """Step time and peak memory of a stage, with three networks and with a shared one, in bfloat16."""
    from fvgen.evaluation.timing.gpu_clips import TINY
    from fvgen.evaluation.timing.training import TrainingTrial, described, measure_training

    # Not 2 frames: torch 2.15's bfloat16 3D convolution on CPUs then gives gradients of memory it never wrote.
    size: Row = {"network": TINY.unet, "frames": 3, "height": 8, "width": 8} if options.tiny else {}
    steps, rank = min(options.repeats, 2), 4 if options.tiny else 64
    for backbone in ("full", "shared"):
        for row in measure_training([TrainingTrial(stage, backbone, device, steps=steps, adapter_rank=rank, **size)]):
            yield row, described(row)


def plugin(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[Row, str]]:
    """ns-train on a procedural capture: 50 steps, start to end; what is compiled at a first run counts."""
    from fvgen.procedural.rooms.capture import TINY, write_room_capture

    with tempfile.TemporaryDirectory() as folder:
        write_room_capture(Path(folder, "room"), seed=0, layout=TINY, with_depth=True)
        method = "fvgen-splat" if is_gpu(device) else "fvgen-splat-cpu"
        command = [sys.executable, "-m", "nerfstudio.scripts.train", method, "--data", f"{folder}/room"]
        command += ["--output-dir", folder, "--max-num-iterations", "50", "--vis", "tensorboard"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        row: Row = {"method": method, "steps": 50, "seconds": time.perf_counter() - start}
        if done.returncode != 0:
            row["error"] = (done.stdout + done.stderr)[-2000:]
    result = "FAILED" if "error" in row else f"{row['seconds']:.1f} s"
    yield row, f"{method}, 50 steps: {result}"


PARTS: dict[str, Part] = {
    "parity": Part(parity, 420, "numba gsplat safetensors"),  # gsplat compiles its kernels at its first run
    "clip-eager": Part(partial(clips, ("plain", "eager")), 150, _NETWORKS),
    "clip-graph": Part(partial(clips, ("graph",)), 120, _NETWORKS),
    "training-stage2": Part(partial(training, "stage2"), 240, f"{_NETWORKS} peft"),
    "plugin": Part(plugin, 300, f"nerfstudio==1.1.5 gsplat numba scipy tyro plyfile {_NETWORKS}"),
    "training-stage1": Part(partial(training, "stage1"), 180, f"{_NETWORKS} peft"),
    "clip-low-memory": Part(partial(clips, ("low-memory",)), 180, _NETWORKS),
    "clip-compiled": Part(partial(clips, ("compiled",)), 600, _NETWORKS),
}


def run_part(name: str, options: argparse.Namespace, device: torch.device) -> None:
    """In this process; rows are added to the file that is named for them."""
    for row, line in PARTS[name].run(options, device):
        print(line, flush=True)
        with options.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")


def limited_part(name: str, seconds: float) -> list[Row]:
    """The part in a process of its own; what it found until it ended or was cut off, and a row about a bad end."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "rows")
        rows.touch()
        command = [sys.executable, __file__, *sys.argv[1:], "--parts", name, "--rows", str(rows)]
        error = None
        try:
            code = subprocess.run(command, timeout=seconds, check=False).returncode
            error = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            error = f"cut off after {seconds:.0f} s"
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    if error:
        print(f"{name}: FAILED, {error}", flush=True)
    return [*found, {"error": error}] if error else found


def main(options: argparse.Namespace) -> int:
    """Check and measure; 1 when a rasterizer differs or a measurement failed."""
    if options.needs:
        print("\n".join(f"{name:16} {part.seconds:4.0f} s  {part.needs}" for name, part in PARTS.items()))
        return 0
    device = torch.device(options.device or default_device())
    if options.device is None and not is_gpu(device):
        print("No GPU: nothing was checked. Run this where torch finds one.")
        return 0
    if options.rows is not None:
        run_part(options.parts[0], options, device)
        return 0
    from fvgen.evaluation.timing.gpu_clips import aims
    from fvgen.evaluation.timing.machine import write_json

    print(f"{gpu_name() if is_gpu(device) else device}, torch {torch.__version__}, {default_dtype(device)}", flush=True)
    end = time.monotonic() + 60 * (options.minutes or float("inf"))
    found: dict[str, list[Row]] = {}
    reached: dict[str, Any] = {}
    for name in options.parts or PARTS:
        left = min(PARTS[name].seconds, end - time.monotonic())
        if left < 10:
            print(f"{name}: not run, no time is left", flush=True)
            continue
        print(f"{name}: at most {left:.0f} s", flush=True)
        found[name] = limited_part(name, left)
        reached = aims([row for key, rows in found.items() if key.startswith("clip") for row in rows])
        if options.output is not None:
            write_json(options.output, {"dtype": str(default_dtype(device)), "aims": reached, **found})
    for name, aim in reached.items():
        print(f"{name}: {aim['measured']:.3f}, aim {aim['aim']}: {'reached' if aim['reached'] else 'NOT reached'}")
    return int(any("error" in row or row.get("passed") is False for rows in found.values() for row in rows))


if __name__ == "__main__":
    sys.exit(main(arguments()))
