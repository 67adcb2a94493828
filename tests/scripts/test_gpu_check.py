"""The GPU check on a CPU: the same code with tiny networks, and what it says without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fvgen.devices import default_device, is_gpu
from fvgen.evaluation.rasterizer_parity import TOLERANCE, parity_errors
from fvgen.evaluation.timing.clips import ClipShape, clip_work, matmul_tflops, random_pipeline
from fvgen.evaluation.timing.gpu_clips import TINY, ClipTrials, aims, measure_clips
from fvgen.evaluation.timing.training import TrainingTrial, described, measure_training
from fvgen.models.convert_viewcrafter import Architecture

ROOT = Path(__file__).parents[2]
NOT_NEEDED = ("nerfstudio", "tyro", "rich", "cv2", "plyfile", "scipy", "torchmetrics", "matplotlib")
"""What comes with Nerfstudio."""
MODES = {(mode, codec) for mode in ("plain", "eager", "compiled") for codec in ("kl", "taesd")} | {("low-memory", "kl")}
CPU = torch.device("cpu")


def check(*options: object) -> subprocess.CompletedProcess:
    """Run the script as a user does, where Nerfstudio's packages cannot be imported."""
    start = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))\n"
        f"sys.argv = ['gpu_check.py', *{[str(option) for option in options]!r}]\n"
        f"runpy.run_path({str(ROOT / 'scripts/gpu_check.py')!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.mark.skipif(is_gpu(default_device()), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path):
    done = check("--output", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("No GPU: nothing was checked.") and len(done.stdout.splitlines()) == 1
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.parametrize(
    "modes", [("plain", "eager", "low-memory"), pytest.param(("eager", "compiled"), marks=pytest.mark.slow)], ids=str
)
def test_every_mode_runs_tiny_on_a_cpu(modes):
    rows = list(measure_clips(ClipTrials(CPU, tflops=100.0, tiny=True, repeats=1, backend="eager", modes=modes)))
    assert {(row["mode"], row["codec"]) for row in rows} == {one for one in MODES if one[0] in modes}
    for row in rows:
        assert "error" not in row, row
        seconds = [row[name] for name in ("encode_s", "unet_s", "decode_s", "clip_s", "floor_s")]
        assert all(value > 0 for value in seconds) and row["floor_s"] < row["clip_s"]
    assert rows[0]["decode_tflop"] > rows[1]["decode_tflop"]  # the large codec, the tiny one
    assert aims(rows) == {}  # another size, and no GPU memory


PARTS = ("parity", "clip-eager", "training-stage2", "clip-low-memory")


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_parts_run_tiny_without_nerfstudio(part, tmp_path):
    done = check("--device", "cpu", "--tiny", "--repeats", 1, "--parts", part, "--rows", tmp_path / "rows")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    if part == "parity":
        assert {row["rasterizer"]: row["passed"] for row in rows} == {"torch": True, "numba": True}
    elif part.startswith("clip"):
        modes = {"plain", "eager"} if part == "clip-eager" else {"low-memory"}
        assert {row["mode"] for row in rows} == modes and all(row["matmul_tflops"] > 0 for row in rows)
    else:
        assert {(row["stage"], row["backbone"]) for row in rows} == {("stage2", "full"), ("stage2", "shared")}
        assert all(row["step_s"] > 0 for row in rows)


@pytest.mark.slow
def test_a_part_that_is_cut_off_keeps_what_it_found_and_time_is_kept(tmp_path):
    output = tmp_path / "gpu.json"
    script = [sys.executable, "scripts/gpu_check.py", "--device", "cpu", "--tiny", "--output", str(output)]
    run = [*script, "--minutes", "0.3", "--repeats", "100000", "--parts", "clip-eager", "training-stage2"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    figures = json.loads(output.read_text())
    assert figures["clip-eager"][-1]["error"].startswith("cut off after") and figures["machine"]["versions"]["torch"]
    assert "training-stage2: not run, no time is left" in done.stdout


def test_needs_are_listed_without_a_gpu():
    done = check("--needs")
    assert done.returncode == 0 and "training-stage2" in done.stdout and "peft" in done.stdout


def test_a_failed_mode_is_reported_and_the_rest_goes_on():
    modes = ("compiled", "low-memory")
    trials = ClipTrials(CPU, tflops=100.0, tiny=True, repeats=1, backend="no-such-backend", modes=modes)
    *failed, last = measure_clips(trials)
    assert {row["mode"] for row in failed} == {"compiled"} and "no-such-backend" in failed[0]["error"]
    assert last["mode"] == "low-memory" and "error" not in last


def test_aims_are_held_against_the_fastest_and_the_largest():
    row = {"mode": "eager", "frames": 16, "height": 320, "width": 512, "codec": "kl", "clip_s": 0.3, "peak_gib": 9.0}
    faster = {**row, "codec": "taesd", "clip_s": 0.2}
    larger = {**row, "height": 576, "width": 1024, "clip_s": 1.0, "peak_gib": 17.0}
    failed = {"mode": "compiled", "error": "OutOfMemoryError"}
    seconds, memory = aims([row, faster, larger, failed]).values()
    assert (seconds["measured"], seconds["reached"], seconds["with"]) == (0.2, True, "taesd eager")
    assert (memory["measured"], memory["reached"]) == (17.0, False)


def test_arithmetic_of_the_full_size_is_the_known_one():
    """ViewCrafter's own: 12.60 TFLOP a forward of 16 frames at 320x512, 0.690 a frame's encode, 1.564 its decode."""
    pipeline = random_pipeline(Architecture(), "few_step", torch.device("meta"), torch.float32)
    work = clip_work(pipeline, ClipShape(16, 320, 512))
    assert work.unet_tflop == pytest.approx(4 * 12.60, rel=0.03)
    assert work.encode_tflop == pytest.approx(16 * 0.690, rel=0.03)
    assert work.decode_tflop == pytest.approx(16 * 1.564, rel=0.03)


@pytest.mark.parametrize("name", ["torch", "numba"])
def test_rasterizers_equal_the_oracle_on_other_scenes(name):
    errors = parity_errors(name, CPU, count=50, seed=7)
    assert len(errors) == 8 and max(errors.values()) < TOLERANCE


def test_matrix_products_take_time():
    assert 0 < matmul_tflops(CPU, torch.float32, 64, repeats=2) < 1e3


def test_a_training_step_is_timed_by_phase():
    """The parts add up to the whole; the loop's own work between them is small."""
    trial = TrainingTrial("stage2", "full", CPU, {**TINY.unet}, frames=2, height=8, width=8, precision="fp32", steps=1)
    (row,) = measure_training([trial])
    assert "error" not in row, row
    phases = row["phases_s"]
    networks = {"student in student", "student in teacher", "student in fake_score", "student in discriminator"}
    assert networks | {"student backward", "critic backward", "student optimizer"} <= phases.keys()
    assert 0.5 * row["step_s"] < sum(phases.values()) <= row["step_s"]
    assert row["planned_gib"] > 0 and "student in teacher" in described(row)


def test_a_training_that_fails_is_reported_and_the_rest_goes_on():
    bad = TrainingTrial("stage1", "full", CPU, {**TINY.unet, "in_channels": 3}, frames=2, height=8, width=8)
    rows = list(measure_training([bad]))
    assert "error" in rows[0] and "FAILED" in described(rows[0])
