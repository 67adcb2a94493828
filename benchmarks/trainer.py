"""Where a training step's time goes: both stages, full and shared backbone, phase by phase.

    python benchmarks/trainer.py --output trainer.json

Networks and clips are random. On a GPU at full size, on a CPU with a small network; `critic` and `student` are the two
kinds of updates, `in NETWORK` a network's forward passes, `forward` the rest of the losses.

Largest in results/trainer_cpu.json: the student's clips for the 5 critic updates (30 % of a step of stage 1, 28 % of
stage 2), and in stage 2 the fake score's backward pass (32 %). Done about the clips: they are sampled without gradients
and only up to the step that was drawn, 2.5 of 4 calls on average, or in one call as stage 1 has it (noised_real).
The fake score learns from one pass and one backward pass an update: nothing of that can be left out, only made cheaper
(bf16, and one fused AdamW kernel for foreach, 4 times as fast on a CPU); how many updates is the recipe's. Around
them: the student's gradient goes through one call, teacher and fake score run without gradients, the discriminator's
features stop at the middle block, in stage 2 come with the teacher's own pass, and give its weights no gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from reporting import write_json
from rich.console import Console
from rich.table import Table

from fvgen.devices import default_device, is_gpu
from fvgen.evaluation.timing.training import STAGES, TrainingTrial, measure_training

SMALL = {
    "in_channels": 24, "out_channels": 12, "model_channels": 64, "channel_mult": (1, 2, 2), "num_res_blocks": 1,
    "attention_resolutions": (2, 4), "num_head_channels": 32, "context_dim": 64, "norm_num_groups": 16,
    "initial_attention_heads": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What is measured."""

    output: Path | None = None
    """JSON file of the figures."""
    steps: int = 3
    """Number of timed steps of each recipe."""


def main(options: Options) -> None:
    """Measure and print a table."""
    device = default_device()
    small: dict[str, Any] = {"network": SMALL, "frames": 8, "height": 16, "width": 24, "precision": "fp32"}
    size = {} if is_gpu(device) else small
    trials = [
        TrainingTrial(stage, backbone, device, steps=options.steps, **size)
        for stage in STAGES
        for backbone in ("full", "shared")
    ]
    rows = list(measure_training(trials))
    table = Table("stage", "backbone", "phase", "seconds a step", "share")
    for row in rows:
        if "error" in row:
            table.add_row(row["stage"], row["backbone"], row["error"], "", "")
            continue
        for phase, seconds in sorted(row["phases_s"].items(), key=lambda item: -item[1]):
            table.add_row(row["stage"], row["backbone"], phase, f"{seconds:.4f}", f"{seconds / row['step_s']:.0%}")
        table.add_row(row["stage"], row["backbone"], "whole step", f"{row['step_s']:.4f}", "", end_section=True)
    Console().print(table)
    if options.output is not None:
        write_json(options.output, {"threads": torch.get_num_threads(), "training": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
