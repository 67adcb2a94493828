"""kill -9 in the middle of ns-train: the next run goes on, and nothing half-written is used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nerfstudio_commands import BIN, cache_state, config_of, run_environment, train, training

pytestmark = pytest.mark.slow


def kill_when(reached: Callable[[], bool], cwd: Path, capture: Path, *options: object) -> None:
    """Start ns-train and kill it, whatever it is doing, once ``reached``."""
    command = [str(BIN / "ns-train"), *training(capture, *options)]
    with (cwd / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=cwd, env=run_environment(cwd), stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 300
        while not reached():
            assert process.poll() is None, (cwd / "killed.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "never got that far"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_killed_while_generating(tiny_room, tmp_path):
    """Views that were finished are kept, the others are made, and the whole is what an unbroken run makes."""
    many = ("--pipeline.datamanager.densify.frames-per-clip", 30)
    frames = tmp_path / "cache/fvgen"

    def finished() -> dict[str, int]:
        return {p.name: p.stat().st_mtime_ns for p in frames.glob("*/frames/*.json")}

    kill_when(lambda: len(finished()) >= 40, tmp_path, tiny_room, *many)
    before = finished()
    assert not list(frames.glob("*/transforms.json"))
    train(tmp_path, tiny_room, *many, "--max-num-iterations", 2)
    after = finished()
    assert len(after) > len(before) and {name: after[name] for name in before} == before
    (folder,) = frames.iterdir()
    assert len(json.loads((folder / "transforms.json").read_text())["frames"]) == len(after)


def test_killed_while_training(tiny_room, tmp_path):
    """Every checkpoint that is there loads, and training goes on from the last of them with the cached views."""
    folder = config_of(tmp_path).parent / "nerfstudio_models"
    saving = ("--max-num-iterations", 100_000, "--steps-per-save", 10)
    kill_when(lambda: len(list(folder.glob("*.ckpt"))) > 0, tmp_path, tiny_room, *saving)
    views = cache_state(tmp_path)
    checkpoints = sorted(folder.glob("*.ckpt"))
    assert checkpoints
    step = max(torch.load(path, weights_only=True)["step"] for path in checkpoints)
    train(tmp_path, tiny_room, "--load-dir", folder, "--max-num-iterations", step + 6, timestamp="resumed")
    (last,) = (config_of(tmp_path, "resumed").parent / "nerfstudio_models").glob("*.ckpt")
    assert torch.load(last, weights_only=True)["step"] == step + 5
    assert cache_state(tmp_path) == views
