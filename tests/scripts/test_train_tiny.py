"""The one command that makes the bundled teacher and student, in its short form."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fvgen.data.shards import ShardDataset
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.find import find_model

ROOT = Path(__file__).parents[2]


def smoke(work: Path) -> str:
    """Run ``scripts/train_tiny.sh --smoke`` with this interpreter; what it printed."""
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    command = ["bash", str(ROOT / "scripts/train_tiny.sh"), "--smoke", str(work)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor for file in (folder / "unet").glob("*.safetensors") for name, tensor in load_file(file).items()
    }


def is_kept(file: Path) -> bool:
    """Whether it is a shard of clips or belongs to a checkpoint."""
    return file.suffix == ".tar" or (
        file.is_file() and "checkpoints" in file.parts and file.parent.name != "checkpoints"
    )


@pytest.mark.slow
def test_from_nothing_to_the_student_and_again(tmp_path):
    work = tmp_path / "tiny"
    assert "these weights are no good" in smoke(work)
    clips = [len(ShardDataset(work / name, crop=(96, 96))) for name in ("clips", "clips_held_out")]
    assert clips == [12, 4]
    teacher, student = work / "teacher/teacher", work / "stage2/student"
    for kind, folder in (("teacher", teacher), ("student", student)):
        assert find_model(kind, folder) == folder
        assert FVGenPipeline.from_pretrained(folder).unet.config.sample_frames == 8
    parts = [weights(teacher), weights(work / "stage1/student"), weights(student)]
    for before, after in pairwise(parts):
        assert any(not torch.equal(before[name], after[name]) for name in before), "a stage has trained nothing"

    summary = json.loads((work / "bundled_training.json").read_text())["summary"]
    shares = [summary[name] for name in ("accuracy_real", "accuracy_fake", "h_mean", "regression_share")]
    assert all(0 <= share <= 1 for share in shares) and summary["h_spread"] >= 0
    assert (summary["clips_stage1"], summary["clips_stage2"]) == (16, 16)

    # As if it had been broken off before the last part: what is there is kept, and the student comes out the same.
    made = [file for part in ("clips", "teacher", "stage1") for file in (work / part).rglob("*") if is_kept(file)]
    times = [file.stat().st_mtime_ns for file in made]
    shutil.rmtree(work / "stage2")
    smoke(work)
    assert len(made) >= 8 and [file.stat().st_mtime_ns for file in made] == times
    again = weights(student)
    assert again.keys() == parts[2].keys() and all(torch.equal(again[name], parts[2][name]) for name in again)
