"""The README's recipe from clips to a splat's views, with tiny networks of every kind that the full size has."""

from __future__ import annotations

import json

import pytest
import tyro
from nerfstudio_commands import train as ns_train
from tiny_training import RUN, train

from fvgen.data import prepare
from fvgen.data.shards import ShardDataset
from fvgen.generation.fixed_frames import fixed_frames_of


@pytest.mark.slow
def test_clips_as_latents_both_stages_with_guidance_and_the_plugin(tiny_room, tiny_model, tmp_path):
    """Autoencoder, both CLIP towers, projector, guidance 7.5; the student draws its 4 frames, of which 3 are kept."""
    teacher, clips = tiny_model("teacher"), tmp_path / "clips"
    sizes = ("--frames", 4, "--height", 48, "--width", 64, "--clips-per-scene", 4)
    line = ("captures", "--captures", tiny_room, "--output", clips, "--encoding", "latents", "--model", teacher, *sizes)
    prepare.prepare_clips(tyro.cli(prepare.Source, args=[str(word) for word in (*line, "--geometry", "capture-depth")]))
    assert ShardDataset(clips).batch([0]).conditions.unconditional_tokens is not None

    inputs = ("--data", clips, "--teacher", teacher)
    train("--preset", "fvgen-stage1", "--output", tmp_path / "one", *inputs, *RUN)
    second = ("--output", tmp_path / "two", "--init-student", tmp_path / "one" / "student", *inputs, *RUN)
    train("--preset", "fvgen-stage2", *second)
    records = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()]
    assert {"student/matching", "student/h_mean"} <= records[0].keys()
    settings = json.loads(next((tmp_path / "two" / "checkpoints").glob("*/state.json")).read_text())["settings"]
    assert settings["objective"]["matching"]["guidance_scale"] == 7.5
    student = tmp_path / "two" / "student"
    assert fixed_frames_of(student) == 4

    given = ("--generator", "student", "--model", student, "--max-num-iterations", 5)
    ns_train(tmp_path, tiny_room, *given, "--pipeline.datamanager.densify.frames-per-clip", 3)
    (cache,) = (tmp_path / "cache/fvgen").iterdir()
    frames = [frame["fvgen"] for frame in json.loads((cache / "transforms.json").read_text())["frames"]]
    photos, drawn = ([frame for frame in frames if frame["photo"] == kind] for kind in (True, False))
    assert {frame["generator"] for frame in drawn} == {"student"}
    assert len(drawn) in (len(photos) - 1, len(photos))  # one between neighbours, on an open or a closed path
