"""The training command as users start it, on tiny networks: from nothing to a student that the plugin loads."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from full_disk import files_up_to
from safetensors.torch import load_file, save_file

from fvgen.checks import InputError
from fvgen.data.clip_encodings import EncodedClip, PixelEncoding
from fvgen.data.shards import ShardDataset, write_index, write_shard
from fvgen.distillation.options import parse
from fvgen.distillation.run import distill
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.find import find_model

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


@pytest.fixture(scope="module")
def command() -> Callable[..., None]:
    """The command in this process, with its errors; starting Python for every run would take minutes."""
    return lambda *options: distill(parse([str(option) for option in options], ""))


def process(*options: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """The script as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, *launcher, str(ROOT / "scripts/train_distill.py"), *map(str, options)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, data, command) -> Path:
    """A teacher trained from nothing, by the command."""
    output = tmp_path_factory.mktemp("teacher")
    command("--preset", "tiny-teacher", "--data", data, "--output", output, *RUN, *TINY, "--sampling-steps", 2)
    return output / "teacher"


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory, data, teacher, command) -> Path:
    output = tmp_path_factory.mktemp("stage1")
    command("--preset", "tiny-stage1", "--data", data, "--output", output, "--teacher", teacher, *RUN)
    return output


@pytest.fixture(scope="module")
def second_stage(tmp_path_factory, data, teacher, first_stage, command) -> Path:
    output = tmp_path_factory.mktemp("stage2")
    start = ("--init-student", first_stage / "student")
    command("--preset", "tiny-stage2", "--data", data, "--output", output, "--teacher", teacher, *start, *RUN)
    return output


def test_the_teacher_is_a_pipeline_of_its_data(teacher, data):
    pipeline = FVGenPipeline.from_pretrained(teacher)
    meta = ShardDataset(data).meta
    assert pipeline.config.sampler == "ddim" and pipeline.config.residual == meta["residual"]
    assert pipeline.unet.config.in_channels == meta["latent_channels"] + meta["condition_channels"]
    assert pipeline.unet.config.sample_frames == FRAMES and tuple(pipeline.unet.config.sample_size) == (4, 4)
    assert find_model("teacher", teacher) == teacher


def test_both_stages_leave_a_student_that_the_plugin_takes(first_stage, second_stage, teacher):
    weights = [
        load_file(f / "unet/diffusion_pytorch_model.safetensors")
        for f in (teacher, first_stage / "student", second_stage / "student")
    ]
    assert all(not torch.equal(weights[0][name], weights[1][name]) for name in ("conv_out.weight", "conv_in.weight"))
    assert not torch.equal(weights[1]["conv_out.weight"], weights[2]["conv_out.weight"])
    folder = second_stage / "student"
    assert find_model("student", folder) == folder
    pipeline = FVGenPipeline.from_pretrained(folder)
    assert pipeline.config.sampler == "few_step"
    assert {path.name for path in folder.iterdir()} == {"README.md", "model_index.json", "schedule", "unet", "vae"}


def test_the_card_tells_where_a_student_comes_from(second_stage, data):
    card = (second_stage / "student/README.md").read_text()
    state = json.loads(next((second_stage / "checkpoints").glob("step-00000002/state.json")).read_text())
    assert f"configuration hash: {state['config_hash']}" in card
    assert f"hash: {ShardDataset(data).config_hash}" in card and "clips: 5" in card
    assert "FVGenStage2" in card and "softened_reverse_kl" in card and "steps: 2" in card
    assert "| held_out/psnr |" in card and "student/loss" in card
    assert str(ROOT) not in card and "/tmp" not in card


def test_a_run_leaves_its_meters_and_samples(second_stage):
    records = [json.loads(line) for line in (second_stage / "log.jsonl").read_text().splitlines()]
    steps = [record for record in records if "student/loss" in record]
    assert [record["step"] for record in steps] == [1, 2]
    assert {"student/r", "student/h", "student/logit_fake"} <= steps[0]["histograms"].keys()
    assert {"student/variance_ratio", "student/motion_ratio", "student/colour_drift"} <= steps[0].keys()
    held_out = [record for record in records if "held_out/error" in record]
    assert [record["step"] for record in held_out] == [2] and held_out[0]["held_out/psnr"] > 0
    assert {path.name for path in (second_stage / "samples").iterdir()} == {"step-00000002.png", "step-00000002.mp4"}


def test_a_finished_run_started_again_exports_the_same(second_stage, data, teacher, first_stage):
    """In a process of its own, as users start it."""
    file = second_stage / "student/unet/diffusion_pytorch_model.safetensors"
    before = file.read_bytes()
    run = process(
        "--preset",
        "tiny-stage2",
        "--data",
        data,
        "--output",
        second_stage,
        "--teacher",
        teacher,
        "--init-student",
        first_stage / "student",
        *RUN,
    )
    assert run.returncode == 0, run.stderr
    assert "peak" in run.stdout and f"Exported step-00000002 to {second_stage / 'student'}" in run.stdout
    assert file.read_bytes() == before


def test_a_run_that_was_broken_off_exports_the_same(tmp_path, second_stage, data, teacher, first_stage, command):
    start = ("--preset", "tiny-stage2", "--data", data, "--teacher", teacher, "--init-student", first_stage / "student")
    for steps in (1, 2):
        command(*start, "--output", tmp_path, *RUN[2:], "--steps", steps)
    weights = "student/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / weights).read_bytes() == (second_stage / weights).read_bytes()


@pytest.mark.slow
def test_a_shared_backbone_goes_both_stages_too(tmp_path, data, teacher, command):
    shared = ("--data", data, "--teacher", teacher, *RUN, "--backbone", "shared", "--adapter-rank", 4)
    command("--preset", "tiny-stage1", "--output", tmp_path / "one", *shared)
    start = ("--init-student", tmp_path / "one/student")
    command("--preset", "tiny-stage2", "--output", tmp_path / "two", *start, *shared)
    names = load_file(tmp_path / "two/student/unet/diffusion_pytorch_model.safetensors").keys()
    assert names == load_file(teacher / "unet/diffusion_pytorch_model.safetensors").keys()  # merged
    assert find_model("student", tmp_path / "two/student")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["full", "shared"])
@pytest.mark.parametrize("config", ["ddp_cpu.yaml", "fsdp2.yaml"])
def test_two_processes_equal_one(tmp_path, data, teacher, command, backbone, config):
    file = tmp_path / config
    text = (ROOT / "scripts/accelerate" / config).read_text()
    file.write_text(text if "use_cpu" in text else text + "use_cpu: true\n")
    launcher = (
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(file),
        "--num_processes",
        "2",
        "--main_process_port",
        "0",
    )
    common = ("--data", data, "--teacher", teacher, *RUN, "--backbone", backbone)
    command("--preset", "tiny-stage1", "--output", tmp_path / "first", *common)
    options = ("--preset", "tiny-stage2", "--init-student", tmp_path / "first/student", *common)
    run = process("--output", tmp_path / "two", *options, launcher=launcher)
    assert run.returncode == 0, run.stderr
    command("--output", tmp_path / "one", *options)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    ]
    for two, one in zip(*logs, strict=True):
        figures = [{k: v for k, v in record.items() if "/" in k} for record in (two, one)]
        # float32 sums in another order; the DMD normaliser divides by what is small at the start
        assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-5)


def test_clips_of_another_codec_are_refused(tmp_path, teacher, command):
    other = shards(tmp_path / "shards", patch=8)
    with pytest.raises(InputError, match="the clips' codec must have the teacher's patch_size 4, got 8"):
        command("--preset", "tiny-stage1", "--data", other, "--output", tmp_path / "run", "--teacher", teacher, *RUN)


def test_clips_of_another_size_are_refused_until_asked_for(tmp_path, teacher, command):
    other = shards(tmp_path / "shards", size=24)
    options = ("--preset", "tiny-stage1", "--data", other, "--output", tmp_path / "run", "--teacher", teacher, *RUN)
    with pytest.raises(InputError, match=r"of the teacher's size 4x4 .* got 6x6 with 3 frames.* --other-size"):
        command(*options)
    command(*options, "--other-size")
    assert tuple(FVGenPipeline.from_pretrained(tmp_path / "run/student").unet.config.sample_size) == (6, 6)


def test_another_runs_output_is_refused_in_one_line(second_stage, data, teacher, first_stage):
    run = process(
        "--preset",
        "tiny-stage2",
        "--data",
        data,
        "--output",
        second_stage,
        "--teacher",
        teacher,
        "--init-student",
        first_stage / "student",
        *RUN,
        "--student.lr",
        0.5,
    )
    assert run.returncode == 2 and "Traceback" not in run.stderr
    message = run.stderr.strip().splitlines()[-1]
    assert "settings must equal those of" in message and "student.lr 0.5 (there: 0.0004)" in message


BAD = {
    "no data": (("--data", "nowhere"), "must hold a readable index.json, got none."),
    "no teacher": (("--teacher", "nowhere"), "nowhere must be a pipeline folder with model_index.json"),
    "no student": (("--preset", "tiny-stage2", "--init-student", "nowhere"), "must be a pipeline folder"),
    "no unconditional tokens": (
        ("--preset", "ablation-no-gan"),
        "guidance_scale must be 1 for clips without unconditional tokens, got 7.5. "
        "Give --objective.matching.guidance-scale 1, or",
    ),
    "nothing to guide by at any depth": (
        ("--preset", "causvid-init"), "got 4.5. Give --objective.guidance-scale 1, or",
    ),
    "timesteps upside down": (
        ("--objective.timesteps", (249, 999)), "timesteps must run from noise to clean, got [249, 999].",
    ),
    "more previews' steps than there are": (("--sampling-steps", 2000), "num_steps must lie in 1 .. 1000, got 2000."),
    "a size without a unit": (("--export-shard-size", "abc"), "export_shard_size must be like 5GB or 200MB, got abc."),
    "a memory of nothing": (("--memory-gib", "nan"), "memory_gib must be positive, got nan."),
    "fewer critic steps than none": (("--objective.critic-steps", -1), "critic_steps must be 0 or more, got -1."),
    "all clips held out": (("--held-out", 5), "data set must hold clips to train on beside 5 held out, got 5."),
    "no room": (("--memory-gib", 0.0001), "the memory plan must fit in the 0.00 GiB of cpu, got 0.0"),
    "unknown preset": (("--preset", "tiny-stage3"), "preset must be one of fvgen-stage1,"),
    "best without a measure": (("--export", "best", "--held-out", 0), "export must be last without held-out clips"),
    "an image model too many": (("--frame-teacher", "nowhere"), "frame_teacher must be left out for tiny-stage1, got"),
    "no image model there": (
        ("--preset", "avdm2", "--frame-teacher", "nowhere"), "frame_teacher must hold scheduler/scheduler_config.json",
    ),
    "no image model": (("--preset", "avdm2"), "frame_teacher must be given, got None."),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_before_the_first_step(what, tmp_path, data, teacher, command):
    bad, words = BAD[what]
    given = {"--preset": "tiny-stage1", "--data": data, "--teacher": teacher, "--output": tmp_path / "run"}
    given |= dict(zip(bad[::2], bad[1::2], strict=True))
    with pytest.raises(InputError) as error:
        command(
            *(part for name, value in given.items() for part in (name, *(value if type(value) is tuple else (value,))))
        )
    assert words in str(error.value)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_teacher_whose_weights_are_not_finite_is_refused(tmp_path, data, teacher, command):
    spoilt = tmp_path / "teacher"
    shutil.copytree(teacher, spoilt)
    (file,) = (spoilt / "unet").glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"teacher/unet must hold finite weights, .* {name} the first. Convert,"):
        command("--preset", "tiny-stage1", "--data", data, "--output", tmp_path / "run", "--teacher", spoilt, *RUN)
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path, data, teacher, command):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"output must be a folder, got the file .*run\. Name another one"):
        command("--preset", "tiny-stage1", "--data", data, "--teacher", teacher, "--output", tmp_path / "run", *RUN)


def test_another_network_is_made_until_something_was_trained_and_then_refused(tmp_path, data, command):
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path, *RUN, "--sampling-steps", 2)
    with pytest.raises(InputError, match="memory plan"):
        command(*line, *TINY, "--memory-gib", 0.0001)
    wider = (*TINY[2:], "--network.model-channels", 16)
    command(*line, *wider)
    assert FVGenPipeline.from_pretrained(tmp_path / "teacher").unet.config.model_channels == 16
    with pytest.raises(InputError, match=r"got .*network.model_channels 8 \(there: 16\)"):
        command(*line, *TINY)


def test_an_export_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(tmp_path, data, teacher, command):
    output = tmp_path / "run"
    line = ("--preset", "tiny-stage1", "--data", data, "--teacher", teacher, "--output", output, *RUN,
            "--objective.timesteps", 999, 499,
            "--objective.adversarial.features", "middle")  # fmt: skip  # a discriminator smaller than the student
    command(*line)
    weights = [output / name / "diffusion_pytorch_model.safetensors" for name in ("discriminator", "student/unet")]
    before = [file.read_bytes() for file in weights]
    for file, name in zip(weights, ("discriminator", "student"), strict=True):
        with (
            files_up_to(file.stat().st_size - 1),
            pytest.raises(
                InputError, match=rf"output must be writable, .*run/{name} \(.*File too large.*\)\. Free disk"
            ),
        ):
            command(*line)
        assert [file.read_bytes() for file in weights] == before
        assert not list(output.glob(".*"))
    card = (output / "student/README.md").read_text()
    assert "2 steps at the timesteps 999, 499, without guidance." in card


def test_an_untrained_network_that_cannot_be_written_is_one_sentence(tmp_path, data, command):
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path, *RUN, *TINY, "--sampling-steps", 2)
    with (
        files_up_to(100_000),
        pytest.raises(InputError, match=r"output must be writable, .*/untrained \(.*File too large.*\)\. Free disk"),
    ):
        command(*line)
    assert not (tmp_path / "untrained").exists()


def test_8_bit_moments_without_their_library_are_refused_before_anything_is_written(
    tmp_path, data, command, monkeypatch
):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path / "run", *RUN, *TINY)
    with pytest.raises(InputError, match=r"adamw8bit must have bitsandbytes installed, got .*pip install bitsandbytes"):
        command(*line, "--critic.kind", "adamw8bit")
    assert not (tmp_path / "run").exists()


def test_a_student_preset_asks_for_its_student(tmp_path, data, teacher, command, capsys):
    with pytest.raises(SystemExit):
        command("--preset", "tiny-stage2", "--data", data, "--output", tmp_path, "--teacher", teacher)
    assert "--init-student" in capsys.readouterr().err


def test_help_is_readable(command, capsys):
    with pytest.raises(SystemExit):
        command("--preset", "tiny-stage1", "--help")
    text = capsys.readouterr().out
    for words in (
        "--teacher PATH",
        "Pipeline folder of the teacher",
        "--student.lr FLOAT",
        "(default: 0.0002)",
        "fvgen-stage2",
        "--objective.adversarial.r1-weight",
        "--global-batch INT",
    ):
        assert words in text
