"""The command that prepares training clips, as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import tyro
from full_disk import files_up_to
from launcher import free_port

from fvgen.checks import InputError
from fvgen.data import prepare
from fvgen.data.shards import ShardDataset

ROOT = Path(__file__).parents[2]
SMALL = ("--frames", "4", "--height", "48", "--width", "64")


@pytest.fixture
def prepare_clips(capsys):
    """The command without the seconds that a new process takes: what it prints."""

    def command(*arguments) -> str:
        prepare.prepare_clips(tyro.cli(prepare.Source, args=[str(argument) for argument in arguments]))
        return capsys.readouterr().out

    return command


def test_procedural_clips(prepare_clips, tmp_path):
    output = tmp_path / "clips"
    command = ("procedural", "--output", output, "--clips", 3, "--block", 2, *SMALL)
    printed = prepare_clips(*command, "--shard", "0/2")
    assert "[1/1] procedural_64x48_000000000 done" in printed and "clips/s" in printed
    assert "1 scenes written, 1 kept, 0 left out; 1 clips" in prepare_clips(*command)
    dataset = ShardDataset(output, crop=(48, 48))  # landscape and portrait take turns
    assert len(dataset) == 3 and dataset.meta["source"] == "procedural"


def test_captures(prepare_clips, tiny_room, tmp_path):
    bad = tmp_path / "captures" / "bad"
    bad.mkdir(parents=True)
    (bad / "transforms.json").write_text("{}")
    (tmp_path / "captures" / "room").symlink_to(tiny_room, target_is_directory=True)
    folders = ("--captures", tmp_path / "captures", "--output", tmp_path / "clips")
    printed = prepare_clips("captures", *folders, "--clips-per-scene", 2, "--geometry", "capture-depth", *SMALL)
    assert "1 scenes written, 0 kept, 1 left out; 2 clips" in printed and "  bad: InputError" in printed
    assert len(ShardDataset(tmp_path / "clips")) == 2


def test_captures_are_found_once(tmp_path):
    """ns-process-data leaves COLMAP's model within the capture; links may lead to a capture twice, or in a circle."""
    for name in ("a", "b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "transforms.json").write_text("{}")
    (tmp_path / "a" / "colmap" / "sparse" / "0").mkdir(parents=True)
    (tmp_path / "a" / "colmap" / "sparse" / "0" / "cameras.bin").touch()
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "b" / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert prepare.capture_folders(tmp_path) == [tmp_path / "a", tmp_path / "b" / "c"]


def test_a_provider_that_is_not_installed_is_refused_at_once(prepare_clips, tiny_room, tmp_path):
    folders = ("--captures", tiny_room, "--output", tmp_path / "clips")
    with pytest.raises(InputError, match="must have the package dust3r installed"):
        prepare_clips("captures", *folders, "--geometry", "dust3r", *SMALL)
    assert not (tmp_path / "clips").exists()


def test_exact_depth_is_a_set_of_its_own(prepare_clips, tmp_path):
    command = ("procedural", "--clips", 1, *SMALL, "--orientation", "landscape", "--plane-sweep", 0)
    for name, options in {"spoilt": (), "exact": ("--geometry", "exact"), "blocks": ("--block", 1)}.items():
        prepare_clips(*command, "--output", tmp_path / name, *options)
    spoilt, exact, blocks = (ShardDataset(tmp_path / name) for name in ("spoilt", "exact", "blocks"))
    assert len({data.config_hash for data in (spoilt, exact, blocks)}) == 3
    assert torch.equal(spoilt.batch([0]).conditions.render_latents, blocks.batch([0]).conditions.render_latents)
    renders = [data.batch([0]).conditions.render_latents for data in (spoilt, exact)]
    assert not torch.equal(*renders) and torch.equal(spoilt.batch([0]).latents[:, 0], exact.batch([0]).latents[:, 0])


def test_a_set_grows_without_losing_or_repeating_a_clip(prepare_clips, tmp_path):
    command = ("procedural", "--output", tmp_path, "--block", 2, "--orientation", "landscape", *SMALL)
    assert "2 scenes written, 0 kept" in prepare_clips(*command, "--clips", 3)
    assert "1 scenes written, 1 kept" in prepare_clips(*command, "--clips", 4)
    index = json.loads((tmp_path / "index.json").read_text())
    keys = [sample["key"] for shard in index["shards"] for sample in shard["samples"]]
    assert keys == [f"{seed:09d}" for seed in range(4)]
    with pytest.raises(InputError, match="hold clips of these settings"):
        prepare_clips("procedural", "--output", tmp_path, "--block", 3, "--orientation", "landscape", *SMALL)


def test_an_output_that_cannot_be_written_is_explained_in_a_sentence(prepare_clips, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"output must be writable, with room on its disk, got .*file.*are kept"):
        prepare_clips("procedural", "--output", tmp_path / "file", "--clips", 1, *SMALL)


def test_a_disk_that_fills_up(prepare_clips, tmp_path):
    """The largest file that may be written is smaller than a shard; the run goes on when there is room."""
    command = ("procedural", "--clips", 2, "--block", 1, "--output", tmp_path, *SMALL)
    refused = pytest.raises(InputError, match=r"output must be writable, with room on its disk, got .*are kept")
    with files_up_to(5000), refused:
        prepare_clips(*command)
    assert not list(tmp_path.glob("*.tar")) and not list(tmp_path.glob(".*"))
    assert "2 scenes written" in prepare_clips(*command)


def test_processes_of_accelerate_share_the_scenes(tmp_path):
    config = ROOT / "scripts" / "accelerate" / "ddp_cpu.yaml"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    launcher += ["--main_process_port", str(free_port()), "-m", "fvgen_ns.cli"]
    command = ["clips", "procedural", "--output", str(tmp_path), "--clips", "3", "--block", "1", *SMALL]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, *command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 scenes written, 0 kept" in done.stdout and "1 scenes written, 0 kept" in done.stdout
    assert len(ShardDataset(tmp_path, crop=(48, 48))) == 3


def test_clips_that_points_cover_too_little_are_left_out_and_counted(prepare_clips, tiny_room, tmp_path):
    captures = ("captures", "--captures", tiny_room, "--geometry", "capture-depth", "--clips-per-scene", 2, *SMALL)
    with pytest.raises(InputError, match="none that points cover by 99%"):
        prepare_clips(*captures, "--output", tmp_path / "none", "--least-coverage", 0.99)
    printed = prepare_clips(*captures, "--output", tmp_path / "some", "--least-coverage", 0.01)
    assert "0 of 2 clips (0%) left out: points cover less than 1% of the frames" in printed


def test_latents_of_a_pipeline(prepare_clips, tiny_room, tiny_model, tmp_path):
    prepare_clips(
        "captures",
        "--captures",
        tiny_room,
        "--output",
        tmp_path,
        "--clips-per-scene",
        1,
        "--encoding",
        "latents",
        "--geometry",
        "capture-depth",
        "--model",
        tiny_model("teacher"),
        *SMALL,
    )
    batch = ShardDataset(tmp_path).batch([0])
    assert batch.latents.shape == batch.conditions.render_latents.shape == (1, 4, 4, 24, 32)
    assert batch.conditions.unconditional_tokens is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("procedural", "--clips", "0"), "clips must be 1 to 1000000, got 0"),
        (("procedural", "--clips", "1000001"), "clips must be 1 to 1000000"),
        (("procedural", "--seed", "-1"), "seed must not be negative, got -1"),
        (("procedural", "--frames", "2"), "frames must be at least 3, got 2"),
        (("captures", "--captures", "tests", "--frames", "1"), "frames must be at least 3, got 1"),
        (("captures", "--captures", "tests", "--height", "0"), "height must be at least 16 pixels, got 0"),
        (("procedural", "--height", "50"), "height and width must be multiples of 4"),
        (("procedural", "--plane-sweep", "nan"), "plane_sweep must lie in [0, 1], got nan"),
        (("procedural", "--shard", "²/3"), "shard must be i/n"),
        (("procedural", "--shard", "3/3"), "shard must be i/n with 0 <= i < n"),
        (("procedural", "--encoding", "latents"), "model must be a pipeline folder for latents, got None"),
        (
            ("procedural", "--encoding", "latents", "--model", "nowhere"),
            "model nowhere must be a pipeline folder with model_index.json",
        ),
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
