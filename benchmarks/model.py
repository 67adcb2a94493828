"""Figures of the video network: size, arithmetic, time and memory of a forward pass.

    python benchmarks/model.py --output model.json

Weights are random: none of these figures depends on them. Time and memory are measured in a process of their own each.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from reporting import write_json
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.viewcrafter_checkpoint import checkpoint_shapes
from fvgen.models.convert_viewcrafter import Architecture
from fvgen.models.unet_3d import VideoUNet

PARAMETERS, TENSORS = 1_438_854_980, 1516
ORIGINAL_TFLOP = {(16, 40, 64): 12.603, (25, 40, 64): 20.187, (16, 72, 128): 52.336, (25, 72, 128): 82.761}
"""ViewCrafter's own code by the same counter: (frames, latent height, latent width) -> one forward pass."""
MEMORY_LIMIT_GB = 8.0
"""Memory of the float32 forward pass at 16 frames of 320x512; the original needs 11.4."""
CONVERSION_LIMIT = 1.3
"""Peak memory of converting a checkpoint, in sizes of its file."""
CONVERTER = Path(__file__).parents[1] / "scripts" / "convert_viewcrafter.py"

FEWER_SECONDS = 20
"""How many times fewer seconds the student takes in the UNet than its teacher."""
REDUCED = Architecture(
    unet={"model_channels": 32, "num_head_channels": 32, "context_dim": 64, "norm_num_groups": 8},
    vae={
        "block_out_channels": (16, 32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "norm_num_groups": 8,
        "latent_channels": 4,
    },
    text={"vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    vision={"image_size": 56, "patch_size": 14, "width": 64, "head_width": 32, "layers": 2},
    clip_dim=64,
    projector={"dim": 64, "depth": 1, "dim_head": 32, "heads": 2, "embedding_dim": 64, "output_dim": 64},
)
"""ViewCrafter's networks with a tenth of the width: its clips take seconds on a CPU."""


@dataclass(frozen=True)
class Figure:
    """One measured number, and what it is to be."""

    name: str
    value: float
    unit: str
    target: str = ""
    reached: bool | None = None


def _meta_unet() -> VideoUNet:
    with torch.device("meta"):
        return VideoUNet().eval()


def size() -> list[Figure]:
    """Parameters and tensors of the full-size network."""
    unet = _meta_unet()
    parameters, tensors = sum(p.numel() for p in unet.parameters()), len(unet.state_dict())
    return [
        Figure("UNet parameters", parameters, "", f"{PARAMETERS:,}", parameters == PARAMETERS),
        Figure("UNet tensors", tensors, "", str(TENSORS), tensors == TENSORS),
    ]


@torch.no_grad()
def arithmetic() -> list[Figure]:
    """Floating-point operations of a forward pass, counted without storage."""
    unet, figures = _meta_unet(), []
    for (frames, height, width), original in ORIGINAL_TFLOP.items():
        sample = torch.empty(1, frames, 8, height, width, device="meta")
        timestep, context = torch.empty(1, device="meta"), torch.empty(1, 77 + 256, 1024, device="meta")
        with FlopCounterMode(display=False) as counter:
            unet(sample, timestep, context)
        tflop = counter.get_total_flops() / 1e12
        name = f"forward, {frames} frames of {8 * height}x{8 * width}"
        figures.append(Figure(name, tflop, "TFLOP", f"{original} +- 3 %", abs(tflop / original - 1) < 0.03))
    return figures


@torch.no_grad()
def _forward(dtype: torch.dtype) -> list[Figure]:
    """Seconds and peak resident memory of the first forward pass of this process, on the CPU."""
    unet = _meta_unet().to(dtype).to_empty(device="cpu")
    for parameter in unet.parameters():
        parameter.uniform_(-0.02, 0.02)
    g = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 16, 8, 40, 64, generator=g).to(dtype)
    context = torch.randn(1, 77 + 256, 1024, generator=g).to(dtype)
    start = time.perf_counter()
    finite = bool(unet(sample, torch.tensor([500]), context).sample.isfinite().all())
    seconds = time.perf_counter() - start
    if not finite:
        raise ArithmeticError("the forward pass gave values that are not finite")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
    kind = f"{str(dtype).removeprefix('torch.')} forward, 16 frames of 320x512, {torch.get_num_threads()} threads"
    if dtype == torch.float32:
        memory = Figure(f"{kind}: peak memory", peak, "GB", f"< {MEMORY_LIMIT_GB}", peak < MEMORY_LIMIT_GB)
    else:
        memory = Figure(f"{kind}: peak memory", peak, "GB")
    return [Figure(kind, seconds, "s"), memory]


def clips() -> list[Figure]:
    """A student's clip and its teacher's: the same reduced network, codec and clip, in one process.

    CPU seconds, so that other work on the machine does not count.
    """
    from fvgen.evaluation.timing.clips import ClipShape, random_pipeline, time_clip

    device, shape = torch.device("cpu"), ClipShape(8, 64, 128)
    pipeline = random_pipeline(REDUCED, "few_step", device, torch.float32)
    millions = sum(p.numel() for p in pipeline.unet.parameters()) / 1e6
    clip = f"{shape.frames} frames of {shape.height}x{shape.width}, UNet of {millions:.1f} M parameters"
    figures, unet_seconds = [], {}
    for kind, sampler, repeats in (("student", "few_step", 3), ("teacher", "ddim", 1)):
        pipeline.register_to_config(sampler=sampler)
        times = time_clip(pipeline, shape, device, repeats, clock=time.process_time)
        unet_seconds[kind] = times.unet_s
        stages = {"encode": times.encode_s, "UNet": times.unet_s, "decode": times.decode_s, "whole": times.clip_s}
        figures += [Figure(f"{kind} clip ({clip}): {name}", value, "CPU s") for name, value in stages.items()]
    ratio = unet_seconds["teacher"] / unet_seconds["student"]
    name = "teacher's seconds in the UNet over the student's"
    return [*figures, Figure(name, ratio, "x", f">= {FEWER_SECONDS}", ratio >= FEWER_SECONDS)]


def conversion() -> list[Figure]:
    """Peak memory and seconds of the converter's command, on a file with every name and shape of a release.

    The weights are zeros, which take no memory here but their full size in the file.
    """
    tables = NoiseSchedule(base_scale=0.7).tables()
    state = {name: tables.get(name, torch.zeros(shape)) for name, shape in checkpoint_shapes(Architecture()).items()}
    figures = []
    with tempfile.TemporaryDirectory() as room:
        checkpoint = Path(room) / "model.ckpt"
        torch.save({"state_dict": state}, checkpoint)
        size = checkpoint.stat().st_size / 1e9
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, CONVERTER, checkpoint, Path(room) / "out"], check=True, stdout=subprocess.DEVNULL
        )
        figures.append(Figure(f"conversion of a checkpoint of {size:.2f} GB", time.perf_counter() - start, "s"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    name, rule = f"conversion of a checkpoint of {size:.2f} GB: peak memory", f"< {CONVERSION_LIMIT} x the file"
    return [*figures, Figure(name, peak, "GB", rule, peak < CONVERSION_LIMIT * size)]


MEASUREMENTS: dict[str, Callable[[], list[Figure]]] = {
    "size": size,
    "arithmetic": arithmetic,
    "clips": clips,
    "conversion": conversion,
    "forward-bf16": lambda: _forward(torch.bfloat16),
    "forward-fp32": lambda: _forward(torch.float32),
}
"""Measurements by name; each runs in a process of its own."""


@dataclass(frozen=True)
class Options:
    """Measure the video network; every figure when none is named."""

    only: tuple[str, ...] = ()
    """Measurements by name: size, arithmetic, clips, conversion (21 GB in TMPDIR), forward-bf16, forward-fp32."""
    output: Path | None = None
    """JSON file to write the figures to."""
    in_process: Annotated[bool, tyro.conf.arg(name="print-json")] = False
    """Measure in this process and print nothing but JSON."""


def measure_apart(name: str) -> list[Figure]:
    """Run one measurement in a fresh process."""
    command = [sys.executable, __file__, "--only", name, "--print-json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"measuring {name} failed:\n{done.stderr}")
    return [Figure(**entry) for entry in json.loads(done.stdout.splitlines()[-1])]


def main(options: Options) -> None:
    """Measure, print a table, and exit with 1 when a target is missed."""
    unknown = set(options.only) - set(MEASUREMENTS)
    if unknown:
        sys.exit(f"--only must name measurements, got {sorted(unknown)}. Choose among {list(MEASUREMENTS)}.")
    names = options.only or tuple(MEASUREMENTS)
    if options.in_process:
        figures = [figure for name in names for figure in MEASUREMENTS[name]()]
        print(json.dumps([vars(figure) for figure in figures]))
        return
    figures = []
    for name in names:
        figures += measure_apart(name)
    table = Table("figure", "measured", "unit", "target", "reached")
    for figure in figures:
        shown = f"{figure.value:,.0f}" if not figure.unit else f"{figure.value:.3g}"
        verdict = {None: "", True: "yes", False: "NO"}[figure.reached]
        table.add_row(figure.name, shown, figure.unit, figure.target, verdict)
    Console().print(table)
    if options.output is not None:
        write_json(options.output, {"figures": [vars(figure) for figure in figures]})
    sys.exit(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    main(tyro.cli(Options))
