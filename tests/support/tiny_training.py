"""The training command on tiny networks, and clips for it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fvgen.data.clip_encodings import EncodedClip, PixelEncoding
from fvgen.data.shards import write_index, write_shard
from fvgen.distillation.options import parse
from fvgen.distillation.run import distill

ROOT = Path(__file__).parents[2]
CLIPS, FRAMES, SIDE = 5, 3, 16
TINY = (
    "--network.model-channels", 8, "--network.channel-mult", 1, 2, "--network.attention-resolutions", 2,
    "--network.num-head-channels", 8, "--network.norm-num-groups", 4, "--network.initial-attention-heads", 1,
)  # fmt: skip
RUN = (
    "--steps", 2, "--global-batch", 2, "--micro-batch", 1, "--held-out", 1, "--meters.log-every", 1,
    "--meters.samples-every", 2, "--meters.no-tensorboard", "--precision", "fp32",
)  # fmt: skip


def clip(key: int, size: int = SIDE) -> EncodedClip:
    """Noise that moves, as `PixelEncoding` stores it."""
    rng = np.random.default_rng(key)
    frames = rng.integers(0, 255, (FRAMES, 3, size, size), dtype=np.uint8)
    drawn = (FRAMES - 2, 3, size, size)
    arrays = {
        "frames": frames,
        "render": rng.integers(0, 255, drawn, dtype=np.uint8),
        "warp": frames[1:-1] // 2 + 60,
        "covered": np.packbits(rng.integers(0, 2, (drawn[0], 1, size, size)).astype(bool)),
        "trust": rng.integers(0, 255, (drawn[0], 1, size, size), dtype=np.uint8),
        "known": np.array([True] + [False] * (FRAMES - 2) + [True]),
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return EncodedClip(f"clip{key}", "npz", buffer.getvalue(), size, size)


def shards(folder: Path, patch: int = 4, size: int = SIDE) -> Path:
    folder.mkdir()
    encoding = PixelEncoding(patch, context_dim=16)
    write_shard(folder, "noise", [clip(key, size) for key in range(CLIPS)], encoding.meta)
    write_index(folder, encoding.meta)
    return folder


def train(*options: object) -> None:
    """Call the command in this process, with its errors; starting Python for every run would take minutes."""
    distill(parse([str(option) for option in options], ""))


def start(*options: object, launcher: Sequence[str] = (sys.executable,)) -> subprocess.CompletedProcess:
    """Start the script as a user does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [*launcher, str(ROOT / "scripts/train_distill.py"), *map(str, options)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)
