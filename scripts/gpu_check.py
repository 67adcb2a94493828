"""What the GPU at hand does: rasterizer parity, seconds and memory of a full-size student's clip and of its training.

    python scripts/gpu_check.py --output gpu.json

Weights are random: neither speed nor memory depends on them. Without a GPU it prints that and exits with 0.
Needs torch, diffusers, transformers, gsplat, numba and safetensors; accelerate for the low-memory mode, and peft for
training with a shared backbone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from fvgen.checks import InputError
from fvgen.devices import default_device, default_dtype, gpu_name, is_gpu


def arguments() -> argparse.Namespace:
    """Command line; argparse, because tyro comes with Nerfstudio, which this does not need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file to write the figures to.")
    parser.add_argument("--device", help="Torch device; by default the GPU.")
    parser.add_argument("--tiny", action="store_true", help="Tiny networks and clips: to try the script, not the GPU.")
    parser.add_argument("--repeats", type=int, default=5, help="Timed runs per figure; the median counts.")
    parser.add_argument("--compile-backend", default="inductor", help="Backend of torch.compile.")
    return parser.parse_args()


def check_rasterizers(device: torch.device) -> list[dict[str, Any]]:
    """Errors of every rasterizer that runs here against the float64 oracle."""
    from fvgen.evaluation.rasterizer_parity import TOLERANCE, parity_errors

    rows: list[dict[str, Any]] = []
    for name, where in (("torch", device), ("numba", torch.device("cpu")), ("gsplat", device)):
        if name == "gsplat" and not is_gpu(device):
            print("rasterizer gsplat: not run, it needs a GPU")
            continue
        try:
            errors = parity_errors(name, where)
        except (InputError, RuntimeError, ImportError) as error:
            rows.append({"rasterizer": name, "error": str(error), "passed": False})
            print(f"rasterizer {name}: FAILED, {error}", flush=True)
            continue
        worst = max(errors, key=lambda key: errors[key])
        passed = errors[worst] <= TOLERANCE
        rows.append({"rasterizer": name, "largest_errors": errors, "passed": passed})
        verdict = "equal" if passed else "NOT EQUAL"
        print(f"rasterizer {name}: {verdict}, largest error {errors[worst]:.1e} in {worst} ({TOLERANCE:.0e} allowed)")
    return rows


def check_training(device: torch.device, tiny: bool, steps: int) -> list[dict[str, Any]]:
    """Step time and peak memory of both stages, with three networks and with a shared one, in bfloat16."""
    from fvgen.evaluation.timing.gpu_clips import TINY
    from fvgen.evaluation.timing.training import STAGES, TrainingTrial, described, measure_training

    # Not 2 frames: torch 2.15's bfloat16 3D convolution on CPUs then gives gradients of memory it never wrote.
    size: dict[str, Any] = {"network": TINY.unet, "frames": 3, "height": 8, "width": 8} if tiny else {}
    trials = [
        TrainingTrial(stage, backbone, device, steps=steps, adapter_rank=4 if tiny else 64, **size)
        for stage in STAGES
        for backbone in ("full", "shared")
    ]
    rows = []
    for row in measure_training(trials):
        rows.append(row)
        print(described(row), flush=True)
    return rows


def main(options: argparse.Namespace) -> int:
    """Check and measure; 1 when a rasterizer differs or a measurement failed."""
    device = torch.device(options.device or default_device())
    if options.device is None and not is_gpu(device):
        print("No GPU: nothing was checked. Run this where torch finds one.")
        return 0
    from fvgen.evaluation.timing.clips import matmul_tflops
    from fvgen.evaluation.timing.gpu_clips import ClipTrials, aims, described, measure_clips
    from fvgen.evaluation.timing.machine import write_json

    dtype = default_dtype(device)
    print(f"{gpu_name() if is_gpu(device) else device}, torch {torch.__version__}, {dtype}")
    parity = check_rasterizers(device)
    ceiling = matmul_tflops(device, dtype, 256 if options.tiny else 8192)
    print(f"matrix product: {ceiling:.3g} TFLOP/s")
    clips = []
    for row in measure_clips(ClipTrials(device, ceiling, options.tiny, options.repeats, options.compile_backend)):
        clips.append(row)
        print(described(row), flush=True)
    reached = aims(clips)
    for name, aim in reached.items():
        print(f"{name}: {aim['measured']:.3f}, aim {aim['aim']}: {'reached' if aim['reached'] else 'NOT reached'}")
    training = check_training(device, options.tiny, min(options.repeats, 2))
    if options.output is not None:
        figures = {"dtype": str(dtype), "matmul_tflops": ceiling, "aims": reached}
        write_json(options.output, {**figures, "parity": parity, "clips": clips, "training": training})
    return int(any(not row["passed"] for row in parity) or any("error" in row for row in clips + training))


if __name__ == "__main__":
    sys.exit(main(arguments()))
