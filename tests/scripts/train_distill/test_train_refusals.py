"""What the training command refuses, before the first step wherever it can be known, and its help."""

from __future__ import annotations

import shutil
import sys

import pytest
from full_disk import files_up_to
from safetensors.torch import load_file, save_file
from tiny_training import RUN, TINY, shards, train

from fvgen.checks import InputError
from fvgen.distillation.command import main
from fvgen.generation.pipeline_fvgen import FVGenPipeline


def test_clips_of_another_codec_are_refused(tmp_path, teacher):
    other = shards(tmp_path / "shards", patch=8)
    with pytest.raises(InputError, match="the clips' codec must have the teacher's patch_size 4, got 8"):
        train("--preset", "tiny-stage1", "--data", other, "--output", tmp_path / "run", "--teacher", teacher, *RUN)


def test_clips_of_another_size_are_refused_until_asked_for(tmp_path, teacher):
    other = shards(tmp_path / "shards", size=24)
    options = ("--preset", "tiny-stage1", "--data", other, "--output", tmp_path / "run", "--teacher", teacher, *RUN)
    with pytest.raises(InputError, match=r"of the teacher's size 4x4 .* got 6x6 with 3 frames.* --other-size"):
        train(*options)
    train(*options, "--other-size")
    assert tuple(FVGenPipeline.from_pretrained(tmp_path / "run/student").unet.config.sample_size) == (6, 6)


def test_another_runs_output_is_refused_in_one_line(second_stage, data, teacher, first_stage, capsys):
    inputs = ("--data", data, "--teacher", teacher, "--init-student", first_stage / "student")
    line = ("--preset", "tiny-stage2", "--output", second_stage, *inputs, *RUN, "--student.lr", 0.5)
    assert main([str(part) for part in line]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
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
def test_bad_input_is_refused_before_the_first_step(what, tmp_path, data, teacher):
    bad, words = BAD[what]
    given = {"--preset": "tiny-stage1", "--data": data, "--teacher": teacher, "--output": tmp_path / "run"}
    given |= dict(zip(bad[::2], bad[1::2], strict=True))
    with pytest.raises(InputError) as error:
        train(
            *(part for name, value in given.items() for part in (name, *(value if type(value) is tuple else (value,))))
        )
    assert words in str(error.value)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_teacher_whose_weights_are_not_finite_is_refused(tmp_path, data, teacher):
    spoilt = tmp_path / "teacher"
    shutil.copytree(teacher, spoilt)
    (file,) = (spoilt / "unet").glob("*.safetensors")
    weights = load_file(file)
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"teacher/unet must hold finite weights, .* {name} the first. Convert,"):
        train("--preset", "tiny-stage1", "--data", data, "--output", tmp_path / "run", "--teacher", spoilt, *RUN)
    assert not (tmp_path / "run").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path, data, teacher):
    (tmp_path / "run").touch()
    with pytest.raises(InputError, match=r"output must be a folder, got the file .*run\. Name another one"):
        train("--preset", "tiny-stage1", "--data", data, "--teacher", teacher, "--output", tmp_path / "run", *RUN)


def test_another_network_is_made_until_something_was_trained_and_then_refused(tmp_path, data):
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path, *RUN, "--sampling-steps", 2)
    with pytest.raises(InputError, match="memory plan"):
        train(*line, *TINY, "--memory-gib", 0.0001)
    wider = (*TINY[2:], "--network.model-channels", 16)
    train(*line, *wider)
    assert FVGenPipeline.from_pretrained(tmp_path / "teacher").unet.config.model_channels == 16
    with pytest.raises(InputError, match=r"got .*network.model_channels 8 \(there: 16\)"):
        train(*line, *TINY)


def test_an_export_that_cannot_be_written_is_one_sentence_and_leaves_the_old_one(tmp_path, data, teacher):
    output = tmp_path / "run"
    line = ("--preset", "tiny-stage1", "--data", data, "--teacher", teacher, "--output", output, *RUN,
            "--objective.timesteps", 999, 499,
            "--objective.adversarial.features", "middle")  # fmt: skip  # a discriminator smaller than the student
    train(*line)
    weights = [output / name / "diffusion_pytorch_model.safetensors" for name in ("discriminator", "student/unet")]
    before = [file.read_bytes() for file in weights]
    for file, name in zip(weights, ("discriminator", "student"), strict=True):
        with (
            files_up_to(file.stat().st_size - 1),
            pytest.raises(
                InputError, match=rf"output must be writable, .*run/{name} \(.*File too large.*\)\. Free disk"
            ),
        ):
            train(*line)
        assert [file.read_bytes() for file in weights] == before
        assert not list(output.glob(".*"))
    card = (output / "student/README.md").read_text()
    assert "2 steps at the timesteps 999, 499, without guidance." in card


def test_an_untrained_network_that_cannot_be_written_is_one_sentence(tmp_path, data):
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path, *RUN, *TINY, "--sampling-steps", 2)
    with (
        files_up_to(100_000),
        pytest.raises(InputError, match=r"output must be writable, .*/untrained \(.*File too large.*\)\. Free disk"),
    ):
        train(*line)
    assert not (tmp_path / "untrained").exists()


def test_8_bit_moments_without_their_library_are_refused_before_anything_is_written(tmp_path, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    line = ("--preset", "tiny-teacher", "--data", data, "--output", tmp_path / "run", *RUN, *TINY)
    with pytest.raises(InputError, match=r"adamw8bit must have bitsandbytes installed, got .*pip install bitsandbytes"):
        train(*line, "--critic.kind", "adamw8bit")
    assert not (tmp_path / "run").exists()


def test_a_student_preset_asks_for_its_student(tmp_path, data, teacher, capsys):
    with pytest.raises(SystemExit):
        train("--preset", "tiny-stage2", "--data", data, "--output", tmp_path, "--teacher", teacher)
    assert "--init-student" in capsys.readouterr().err


def test_help_is_readable(capsys):
    with pytest.raises(SystemExit):
        train("--preset", "tiny-stage1", "--help")
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
