"""Two processes do what one does at the same global batch: plain, sharded, and taken over from each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from launcher import two_processes
from safetensors.torch import load_file
from stand_in import run, stand_in_config

from fvgen.checks import InputError
from fvgen.distillation import checkpoint
from fvgen.distillation.checkpoint import CHECKPOINTS
from fvgen.distillation.parallel import Processes

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests/support/stand_in.py"
STEPS = 6
TOLERANCE = 2e-5
"""Relative: float32 sums of a batch's gradients in another order, over some updates of AdamW."""


def launched(tmp_path: Path, config: str, *options: object) -> subprocess.Popen:
    """The stand-in under one of the shipped configurations, in two processes on the CPU."""
    command = [*two_processes(tmp_path, config), str(STAND_IN), *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> subprocess.CompletedProcess:
    """Its output; one that hangs is ended with its workers."""
    try:
        output = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        for pid in workers(process):
            os.kill(pid, signal.SIGKILL)
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


def launch(tmp_path: Path, config: str, *options: object) -> subprocess.CompletedProcess:
    return finish(launched(tmp_path, config, *options))


def workers(process: subprocess.Popen) -> list[int]:
    """Ids of the launcher's processes by rank."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def records(output: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if "/" in name} for line in lines]


def assert_same_run(found: Path, expected: Path) -> None:
    for one, other in zip(records(found), records(expected), strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE, abs=1e-6)
    folder = Path(CHECKPOINTS) / f"step-{STEPS:08d}"
    for file in sorted((expected / folder).glob("*.safetensors")):
        wanted = load_file(file)
        given = load_file(found / folder / file.name)
        for name, tensor in wanted.items():
            torch.testing.assert_close(given[name], tensor, rtol=TOLERANCE, atol=1e-6)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("alone")
    run(stand_in_config(STEPS, micro_batch=4), output)
    return output


def test_two_processes_equal_one(tmp_path, alone):
    done = launch(tmp_path, "ddp.yaml", tmp_path / "two", STEPS)
    assert done.returncode == 0, done.stderr
    assert "process 2 of 2, sharded: False" in done.stdout
    assert done.stdout.count("connected: False") == 2  # else a thread may abort Python as it ends
    assert_same_run(tmp_path / "two", alone)


def test_two_sharded_processes_equal_one_and_hand_over_to_it(tmp_path, alone):
    done = launch(tmp_path, "fsdp2.yaml", tmp_path / "two", STEPS - 2)
    assert done.returncode == 0, done.stderr
    assert "process 2 of 2, sharded: True" in done.stdout
    run(stand_in_config(STEPS), tmp_path / "two")
    assert_same_run(tmp_path / "two", alone)


@pytest.mark.slow
def test_one_process_hands_over_to_sharded_ones(tmp_path, alone):
    run(stand_in_config(STEPS - 2), tmp_path / "two")
    done = launch(tmp_path, "fsdp2.yaml", tmp_path / "two", STEPS)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "two", alone)


@pytest.mark.parametrize(
    ("config", "receiver", "code"),
    [
        ("ddp.yaml", "second", 0),
        pytest.param("fsdp2.yaml", "first", 0, marks=pytest.mark.slow),
        pytest.param(
            "ddp.yaml", "launcher", 1, marks=pytest.mark.slow
        ),  # torch's launcher leaves with 1 whatever it ran
    ],
)
def test_all_stop_at_the_step_in_which_one_is_signalled(tmp_path, alone, config, receiver, code):
    """Were it not the same step, one would wait for the other in an exchange of gradients for ever."""
    process = launched(tmp_path, config, tmp_path / "two", STEPS, "--every", 1000, "--pause", 0.5)
    while not (tmp_path / "two/log.jsonl").is_file() and process.poll() is None:
        time.sleep(0.01)
    pids = {"launcher": process.pid, **dict(zip(("first", "second"), workers(process), strict=True))}
    os.kill(pids[receiver], signal.SIGTERM)
    done = finish(process)
    assert done.returncode == code, done.stderr
    saved = checkpoint.latest(tmp_path / "two" / CHECKPOINTS)
    assert saved is not None and 0 < int(saved.name[5:]) < STEPS
    run(stand_in_config(STEPS), tmp_path / "two")
    assert_same_run(tmp_path / "two", alone)


def test_a_checkpoint_that_the_main_process_cannot_write_is_an_error_in_all(tmp_path):
    folder = tmp_path / "two" / CHECKPOINTS
    process = launched(tmp_path, "fsdp2.yaml", tmp_path / "two", STEPS, "--every", 2, "--files-up-to", 1000)
    done = finish(process)  # hung before: the other process waits for the tensors that it has a part of
    assert done.returncode == 1
    assert f"checkpoint {folder / 'step-00000002'} must be written whole, got " in done.stderr
    assert "File too large" in done.stderr and list(folder.iterdir()) == []


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_accumulating_changes_rounding_only(tmp_path, alone, micro_batch):
    run(stand_in_config(STEPS, micro_batch=micro_batch), tmp_path)
    assert_same_run(tmp_path, alone)


def test_a_batch_that_the_processes_cannot_share_is_refused(tmp_path):
    with pytest.raises(InputError, match="global_batch must be divisible by the 3 processes, got 4") as error:
        run(stand_in_config(1), tmp_path, processes=Processes(rank=0, world=3))
    assert "Give --global-batch 6" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_shares_make_up_the_batch():
    shares = [list(Processes(rank, 4).share(12)) for rank in range(4)]
    assert [place for share in shares for place in share] == list(range(12))


def test_leaving_ends_the_connection():
    Processes().leave()  # nothing to leave
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    Processes(rank=0, world=2).leave()
    assert not torch.distributed.is_initialized()
