"""The command that prepares training clips, as a user starts it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import tyro

from fvgen.checks import InputError
from fvgen.data.shards import ShardDataset

ROOT = Path(__file__).parents[2]
SMALL = ("--frames", "4", "--height", "48", "--width", "64")


@pytest.fixture(scope="module")
def script():
    """The script as a module: its command line without the seconds that a new process takes."""
    spec = importlib.util.spec_from_file_location("prepare_clips", ROOT / "scripts" / "prepare_clips.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["prepare_clips"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["prepare_clips"]


@pytest.fixture
def prepare_clips(script, capsys):
    def run(*arguments) -> str:
        script.main(tyro.cli(script.Options, args=[str(argument) for argument in arguments]))
        return capsys.readouterr().out

    return run


def test_procedural_clips(prepare_clips, tmp_path):
    output = tmp_path / "clips"
    command = ("procedural", "--output", output, "--clips", 3, "--block", 2, *SMALL)
    said = prepare_clips(*command, "--shard", "0/2")
    assert "[1/1] procedural_64x48_000000000 done" in said and "clips/s" in said
    assert "1 scenes written, 1 kept, 0 left out; 1 clips" in prepare_clips(*command)
    dataset = ShardDataset(output, crop=(48, 48))  # landscape and portrait take turns
    assert len(dataset) == 3 and dataset.meta["source"] == "procedural"


def test_captures(prepare_clips, tiny_room, tmp_path):
    bad = tmp_path / "captures" / "bad"
    bad.mkdir(parents=True)
    (bad / "transforms.json").write_text("{}")
    (tmp_path / "captures" / "room").symlink_to(tiny_room, target_is_directory=True)
    folders = ("--captures", tmp_path / "captures", "--output", tmp_path / "clips")
    said = prepare_clips("captures", *folders, "--clips-per-scene", 2, "--geometry", "capture-depth", *SMALL)
    assert "1 scenes written, 0 kept, 1 left out; 2 clips" in said and "  bad: InputError" in said
    assert len(ShardDataset(tmp_path / "clips")) == 2


def test_latents_of_a_pipeline(prepare_clips, tiny_room, tiny_model, tmp_path):
    prepare_clips(
        "captures", "--captures", tiny_room, "--output", tmp_path, "--clips-per-scene", 1, "--encoding", "latents",
        "--geometry", "capture-depth", "--model", tiny_model("teacher"), *SMALL,
    )  # fmt: skip
    batch = ShardDataset(tmp_path).batch([0])
    assert batch.latents.shape == batch.conditions.render_latents.shape == (1, 4, 4, 24, 32)
    assert batch.conditions.unconditional_tokens is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("procedural", "--clips", "0"), "clips must be at least 1, got 0"),
        (("procedural", "--shard", "3/3"), "shard must be i/n with 0 <= i < n"),
        (("procedural", "--encoding", "latents"), "model must be a pipeline folder for latents, got None"),
        (("procedural", "--encoding", "latents", "--model", "nowhere"), "model must be a pipeline folder"),
        (("procedural", "--model", "x"), "model must be left out for pixels"),
        (("captures", "--captures", "nowhere"), "captures must be a folder"),
        (("captures", "--captures", "tests/scripts"), "captures must hold a transforms.json or a COLMAP model"),
        (("captures", "--captures", "tests/scripts", "--geometry", "guess"), "geometry must be one of auto"),
    ],
)
def test_bad_arguments_are_refused(prepare_clips, tmp_path, arguments, message):
    with pytest.raises(InputError) as error:
        prepare_clips(*arguments, "--output", tmp_path / "clips")
    assert message in str(error.value) and not (tmp_path / "clips").exists()
