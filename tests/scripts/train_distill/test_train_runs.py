"""The training command as users start it, on tiny networks: from nothing to a student that the plugin loads."""

from __future__ import annotations

import json

import pytest
import torch
from launcher import two_processes
from safetensors.torch import load_file
from tiny_training import FRAMES, ROOT, RUN, start, train

from fvgen.data.shards import ShardDataset
from fvgen.distillation.previews import sample_latents
from fvgen.distillation.randomness import BatchRandom
from fvgen.generation.load_pipeline import load_pipeline
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.models.find import find_model


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
    assert pipeline.config.sampler == "few_step" and pipeline.timesteps() == [999, 749, 499, 249]
    assert {path.name for path in folder.iterdir()} == {"README.md", "model_index.json", "schedule", "unet", "vae"}


def test_a_student_is_sampled_at_the_timesteps_it_was_trained_at(tmp_path, data, teacher):
    """In previews, in the pipeline, and in the index that both the plugin and diffusers read."""
    inputs = ("--data", data, "--teacher", teacher, "--output", tmp_path)
    train("--preset", "tiny-stage1", *inputs, *RUN[2:], "--steps", 1, "--objective.timesteps", 999, 599)
    folder = tmp_path / "student"
    assert json.loads((folder / "model_index.json").read_text())["timesteps"] == [999, 599]
    pipeline = load_pipeline(find_model("student", folder))
    assert pipeline.timesteps() == pipeline.timesteps(2) == [999, 599]
    assert pipeline.timesteps(4) == [999, 749, 499, 249]
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    clip = ShardDataset(data).batch([4])
    noise = BatchRandom((0, 0x5EED), [4])  # that of previews
    with torch.no_grad():
        z = sample_latents(pipeline.unet, pipeline.schedule, clip, noise, [999, 599], "few_step")
    error = float((z - clip.latents).square().mean())
    assert next(r["held_out/error"] for r in records if "held_out/error" in r) == pytest.approx(error, rel=1e-3)


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
    inputs = ("--data", data, "--teacher", teacher, "--init-student", first_stage / "student")
    run = start("--preset", "tiny-stage2", "--output", second_stage, *inputs, *RUN)
    assert run.returncode == 0, run.stderr
    assert "peak" in run.stdout and f"Exported step-00000002 to {second_stage / 'student'}" in run.stdout
    assert file.read_bytes() == before


def test_a_run_that_was_broken_off_exports_the_same(tmp_path, second_stage, data, teacher, first_stage):
    inputs = ("--data", data, "--teacher", teacher, "--init-student", first_stage / "student")
    for steps in (1, 2):
        train("--preset", "tiny-stage2", "--output", tmp_path, *inputs, *RUN[2:], "--steps", steps)
    weights = "student/unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / weights).read_bytes() == (second_stage / weights).read_bytes()


@pytest.mark.slow
def test_a_shared_backbone_goes_both_stages_too(tmp_path, data, teacher):
    shared = ("--data", data, "--teacher", teacher, *RUN, "--backbone", "shared", "--adapter-rank", 4)
    train("--preset", "tiny-stage1", "--output", tmp_path / "one", *shared)
    inputs = ("--init-student", tmp_path / "one/student")
    train("--preset", "tiny-stage2", "--output", tmp_path / "two", *inputs, *shared)
    names = load_file(tmp_path / "two/student/unet/diffusion_pytorch_model.safetensors").keys()
    assert names == load_file(teacher / "unet/diffusion_pytorch_model.safetensors").keys()  # merged
    assert find_model("student", tmp_path / "two/student")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["full", "shared"])
@pytest.mark.parametrize("config", ["ddp_cpu.yaml", "fsdp2.yaml"])
def test_two_processes_equal_one(tmp_path, data, teacher, backbone, config):
    common = ("--data", data, "--teacher", teacher, *RUN, "--backbone", backbone)
    train("--preset", "tiny-stage1", "--output", tmp_path / "first", *common)
    options = ("--preset", "tiny-stage2", "--init-student", tmp_path / "first/student", *common)
    run = start("--output", tmp_path / "two", *options, launcher=two_processes(tmp_path, config))
    assert run.returncode == 0, run.stderr
    train("--output", tmp_path / "one", *options)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("two", "one")
    ]
    for two, one in zip(*logs, strict=True):
        figures = [{k: v for k, v in record.items() if "/" in k} for record in (two, one)]
        # float32 sums in another order; the DMD normaliser divides by what is small at the start
        assert figures[0] == pytest.approx(figures[1], rel=1e-3, abs=1e-5)
