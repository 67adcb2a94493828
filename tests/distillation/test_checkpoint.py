"""Exact resume: killed, stopped, out of disk, damaged; the weights after N steps are those of an unbroken run."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stand_in import MemoryClips, MovesLast, Taught, run, stand_in_config, stand_in_roles, taught_roles

from fvgen.checks import InputError
from fvgen.distillation import checkpoint
from fvgen.distillation.checkpoint import CHECKPOINTS
from fvgen.distillation.settings import CheckpointConfig, OptimizerConfig

ROOT = Path(__file__).parents[2]
STEPS = 8
NO_PROCESS = 2**22 + 1
"""An id that Linux gives to no process: of one that was killed."""


def command(output: Path, *options: object) -> list[str]:
    return [sys.executable, str(ROOT / "tests/support/stand_in.py"), str(output), *map(str, options)]


def start(output: Path, *options: object, **how) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(output, *options), env=environment, stderr=subprocess.PIPE, text=True, **how)


def finish(process: subprocess.Popen) -> str:
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


def weights(output: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint by file and name: weights, moments, averages, running means."""
    folder = output / CHECKPOINTS / f"step-{step:08d}"
    files = sorted(folder.glob("*.safetensors"))
    assert {file.name for file in files} == {
        "student.safetensors",
        "student.optimizer.safetensors",
        "discriminator.safetensors",
        "discriminator.optimizer.safetensors",
        "ema.safetensors",
    }
    return {f"{file.name} {name}": tensor for file in files for name, tensor in load_file(file).items()}


def assert_same_bits(output: Path, unbroken: Path) -> None:
    found, expected = weights(output), weights(unbroken)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("unbroken")
    run(stand_in_config(STEPS), output)
    return output


def test_the_unbroken_run_moves_everything(unbroken):
    first = stand_in_config(1)
    run(first, unbroken.parent / "one")
    start_, end = weights(unbroken.parent / "one", 1), weights(unbroken)
    assert all(not torch.equal(start_[name], tensor) for name, tensor in end.items())
    assert "discriminator.safetensors running_mean" in end


def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path, unbroken):
    """SIGKILL after two delays, within a step or a save, whichever it meets; then the same command again."""
    options = (STEPS, "--every", 1, "--pause", 0.1)
    for newest in (1, 4):
        process = start(tmp_path, *options)
        while process.poll() is None and not (tmp_path / CHECKPOINTS / f"step-{newest:08d}").is_dir():
            time.sleep(0.002)
        time.sleep(0.03 * newest)  # some way into a later step or its save
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(start(tmp_path, *options))
    assert_same_bits(tmp_path, unbroken)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))  # nothing twice, nothing missing


def test_sigterm_saves_and_exits_with_zero(tmp_path, unbroken):
    process = start(tmp_path, STEPS, "--every", 1000, "--pause", 0.2)
    while not (tmp_path / "log.jsonl").is_file() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    finish(process)
    saved = checkpoint.latest(tmp_path / CHECKPOINTS)
    assert saved is not None and 0 < int(saved.name[5:]) < STEPS
    run(stand_in_config(STEPS), tmp_path)
    assert_same_bits(tmp_path, unbroken)


@pytest.mark.parametrize("broken_at", [1, 3, 7])
def test_stopped_after_any_step_it_ends_with_the_same_bits(tmp_path, unbroken, broken_at):
    run(stand_in_config(broken_at), tmp_path)
    run(stand_in_config(STEPS), tmp_path)
    assert_same_bits(tmp_path, unbroken)


def test_moments_come_back_to_the_parameters_that_they_are_of(tmp_path):
    slower = OptimizerConfig(lr=1e-2, spatial_lr_scale=0.2)
    for output, steps in (("unbroken", STEPS), ("broken", 3), ("broken", STEPS)):
        roles = stand_in_roles()
        torch.manual_seed(0)
        roles.student = MovesLast()
        run(stand_in_config(steps, student=slower), tmp_path / output, roles=roles)
    assert_same_bits(tmp_path / "broken", tmp_path / "unbroken")


ALIGNMENT = 64
"""Bytes that torch's allocator aligns memory on the CPU to."""


def test_what_is_resumed_lies_where_torch_puts_it(tmp_path):
    """CPU kernels may add in another order elsewhere, in a file that is mapped for one."""
    run(stand_in_config(3), tmp_path)
    state = run(stand_in_config(4), tmp_path)
    moments = [
        entry for optimizer in state.optimizers.values() for own in optimizer.state.values() for entry in own.values()
    ]
    weights = [tensor for module in state.trained.values() for tensor in module.state_dict().values()]
    assert len(moments) == 18 and len(weights) == 7 and len(state.ema) == 4
    assert not [tensor for tensor in (*moments, *weights, *state.ema.values()) if tensor.data_ptr() % ALIGNMENT]


def test_a_frozen_network_at_other_addresses_gives_the_same_bits(tmp_path):
    for name, floats in (("aligned", 0), ("mapped", 10)):  # 40 bytes: where a safetensors file begins
        roles = taught_roles()
        for parameter in roles.teacher.parameters():
            room = torch.empty(floats + parameter.numel())
            parameter.data = room[floats:].view_as(parameter).copy_(parameter)
            assert bool(parameter.data_ptr() % ALIGNMENT) == (name == "mapped")
        run(stand_in_config(STEPS), tmp_path / name, Taught(), roles=roles)
    assert_same_bits(tmp_path / "mapped", tmp_path / "aligned")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, unbroken):
    run(stand_in_config(3), tmp_path)
    size = max(file.stat().st_size for file in (tmp_path / CHECKPOINTS).rglob("*.safetensors"))

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    process = start(tmp_path, STEPS, "--every", 1, preexec_fn=small_disk)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    message = errors.strip().splitlines()[-1]
    assert "step-00000004 must be written whole, got " in message and "step-00000003 is whole" in message
    assert [path.name for path in (tmp_path / CHECKPOINTS).iterdir()] == ["step-00000003"]
    run(stand_in_config(STEPS), tmp_path)
    assert_same_bits(tmp_path, unbroken)


def test_a_file_in_the_place_of_the_checkpoints_is_refused_before_the_first_step(tmp_path):
    (tmp_path / CHECKPOINTS).touch()
    with pytest.raises(InputError, match="checkpoints must be a folder, got a file"):
        run(stand_in_config(STEPS), tmp_path)
    assert not (tmp_path / "log.jsonl").exists()


def _cut_short(folder: Path) -> None:
    file = folder / "student.safetensors"
    file.write_bytes(file.read_bytes()[:-7])


def _other_bits(folder: Path) -> None:
    file = folder / "ema.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


DAMAGES = {
    "cut short": _cut_short,
    "other bits": _other_bits,
    "a file missing": lambda folder: (folder / "discriminator.optimizer.safetensors").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "state cut short": lambda folder: (folder / "state.json").write_text('{"step": 4, '),
    "never renamed": lambda folder: folder.rename(folder.with_name(f".{folder.name}.{NO_PROCESS}-0.unfinished")),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path, unbroken, name):
    run(stand_in_config(4, every=2), tmp_path)
    DAMAGES[name](tmp_path / CHECKPOINTS / "step-00000004")
    with pytest.warns(UserWarning, match="step-00000004.* passed over"):
        assert checkpoint.latest(tmp_path / CHECKPOINTS) == tmp_path / CHECKPOINTS / "step-00000002"
    with pytest.warns(UserWarning, match="passed over"):
        run(stand_in_config(STEPS, every=2), tmp_path)
    assert_same_bits(tmp_path, unbroken)


def test_another_runs_checkpoint_is_refused_with_what_differs(tmp_path):
    run(stand_in_config(2), tmp_path)
    other = stand_in_config(4, seed=1, student=OptimizerConfig(lr=3e-4))
    with pytest.raises(
        InputError, match=r"settings must equal those of .*step-00000002, got .*seed 1 \(there: 0\)"
    ) as e:
        run(other, tmp_path)
    assert "student.lr 0.0003 (there: 0.01)" in str(e.value) and "another --output" in str(e.value)


def test_longer_and_other_saving_is_the_same_run(tmp_path, unbroken):
    run(stand_in_config(2, every=1), tmp_path)
    run(stand_in_config(STEPS, checkpoints=CheckpointConfig(every=3, keep=1), micro_batch=2), tmp_path)
    assert_same_bits(tmp_path, unbroken)


def test_checkpoints_of_other_networks_are_refused(tmp_path):
    run(stand_in_config(2), tmp_path)
    roles = stand_in_roles()
    roles.student = torch.nn.Sequential(roles.student)
    with pytest.raises(InputError, match="must hold this run's tensors"):
        run(stand_in_config(4), tmp_path, roles=roles)


def test_old_checkpoints_go_and_the_best_stays(tmp_path):
    errors = {1: 0.5, 2: 0.2, 3: 0.4, 4: 0.3, 5: 0.25}
    config = stand_in_config(5, every=1)
    config = stand_in_config(5, every=1, meters=type(config.meters)(log_every=1, samples_every=1, tensorboard=False))
    state = run(config, tmp_path, preview=lambda log: lambda step, ema: {"error": errors[step]})
    folder = tmp_path / CHECKPOINTS
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000002", "step-00000004", "step-00000005"]
    assert checkpoint.best(folder) == folder / "step-00000002" and state.best == 0.2
    run(stand_in_config(6, every=1), tmp_path)  # goes on knowing it
    assert checkpoint.best(folder) == folder / "step-00000002" and (folder / "step-00000002").is_dir()


def test_a_damaged_newer_checkpoint_does_not_count_as_kept(tmp_path, unbroken):
    once = {"checkpoints": CheckpointConfig(every=2, keep=1)}
    run(stand_in_config(6, checkpoints=CheckpointConfig(every=2, keep=3)), tmp_path)
    folder = tmp_path / CHECKPOINTS
    for name in ("step-00000004", "step-00000006"):
        _cut_short(folder / name)
    with pytest.warns(UserWarning, match="passed over"):
        run(stand_in_config(4, **once), tmp_path)
    assert [path.name for path in folder.glob("step-*")] == ["step-00000004"]
    assert checkpoint.latest(folder) == folder / "step-00000004"
    run(stand_in_config(STEPS, **once), tmp_path)
    assert_same_bits(tmp_path, unbroken)


def test_an_export_without_its_checkpoint_is_refused(tmp_path):
    for which, words in (("last", "got none that is whole"), ("best", "got 'no held-out error was measured'")):
        with pytest.raises(InputError, match=f"must hold the {which} checkpoint for the export, {words}"):
            checkpoint.exported(tmp_path / CHECKPOINTS, which)
    run(stand_in_config(1), tmp_path)
    folder = tmp_path / CHECKPOINTS
    assert checkpoint.exported(folder, "last") == folder / "step-00000001"
    (folder / "best.json").write_text('{"checkpoint": "step-00000009"}')
    with pytest.raises(InputError, match=r"got 'state.json: .*Use --export last"):
        checkpoint.exported(folder, "best")


def test_nothing_in_a_checkpoint_is_code(unbroken):
    suffixes = {path.suffix for path in (unbroken / CHECKPOINTS).rglob("*") if path.is_file()}
    assert suffixes == {".safetensors", ".json"}


def test_an_empty_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="data set must hold clips to train on beside 0 held out, got 0"):
        run(stand_in_config(1), tmp_path, source=MemoryClips(0))
    with pytest.raises(InputError, match="beside 7 held out, got 7"):
        run(stand_in_config(1, held_out=7), tmp_path)


def test_moments_in_8_bits_resume_exactly(tmp_path):
    pytest.importorskip("bitsandbytes", reason="8-bit optimisers are bitsandbytes'")

    def train(output: Path, steps: int) -> Path:
        roles = stand_in_roles(width=64)  # bitsandbytes leaves small tensors in 32 bits
        run(stand_in_config(steps, student=OptimizerConfig(kind="adamw8bit")), output, roles=roles)
        return output

    unbroken = train(tmp_path / "unbroken", STEPS)
    moments = [tensor for name, tensor in weights(unbroken).items() if name.endswith("state1")]
    assert {tensor.dtype for tensor in moments} == {torch.uint8, torch.float32}
    train(tmp_path / "broken", 3)
    assert_same_bits(train(tmp_path / "broken", STEPS), unbroken)
