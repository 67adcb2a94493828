"""ns-train on photos without poses, as a user runs it: SIFT stands in for learned matches, which take a minute."""

from __future__ import annotations

import json
import shutil
import zipfile
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from nerfstudio_commands import config_of, run, train

from fvgen.checks import InputError
from fvgen.poses.options import PoseOptions
from fvgen.poses.photos_to_capture import photos_to_capture
from fvgen.procedural.rooms.capture import RoomCapture, write_room_capture
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.posed_input import POSED_CAPTURE, holds_photos_alone, pose_photos

SIFT = ("--pipeline.datamanager.poses.matcher", "sift")
HOLD_OUT = ("--pipeline.datamanager.poses.hold-out", 4)
QUICK = ("--max-num-iterations", 5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Four photos of a room, and a file that is none; not to be written to."""
    folder = tmp_path_factory.mktemp("unposed")
    write_room_capture(folder / "room", seed=0, layout=RoomCapture(width=240, height=160, train=4, test=0))
    shutil.copytree(folder / "room" / "images", folder / "photos")
    (folder / "photos" / "diary.txt").write_text("a fine day")
    return folder / "photos"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photos) -> Path:
    """A folder in which ns-train has run on the photos, with a relative path."""
    cwd = tmp_path_factory.mktemp("nerfstudio")
    shutil.copytree(photos, cwd / "photos")
    done = train(cwd, Path("photos"), *QUICK, *SIFT, *HOLD_OUT)
    text = " ".join(done.stdout.split())
    assert "matching photos" in text and "4 of 4 photos placed: train_00.png" in text
    return cwd


def capture_of(cwd: Path, timestamp: str = "run") -> Path:
    return config_of(cwd, timestamp).parent / POSED_CAPTURE


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_posed_capture_lies_beside_the_configuration_that_names_it(trained):
    config = yaml.load(config_of(trained).read_text(), Loader=yaml.Loader)
    manager = config.pipeline.datamanager
    assert config.data == manager.data == manager.dataparser.data == capture_of(trained)
    meta = json.loads((capture_of(trained) / "transforms.json").read_text())
    assert len(meta["train_filenames"]) == 3 and meta["test_filenames"] == ["images/train_03.png"]
    notes = json.loads((config_of(trained).parent / "fvgen_notes.json").read_text())
    assert notes[0].startswith("4 of 4 photos placed: ")
    assert any("1 of 4 placed photos: train_03.png" in note for note in notes)
    assert any("diary.txt" in note for note in notes)


def test_evaluation_needs_neither_the_photos_nor_the_cache(trained, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    before = state(capture_of(trained))
    shutil.move(trained / "photos", tmp_path / "photos")
    shutil.move(trained / "cache", tmp_path / "cache")
    try:
        where = ("--load-config", config_of(trained), "--output-path", tmp_path / "eval.json")
        done = run("ns-eval", *where, cwd=trained)
    finally:
        shutil.move(tmp_path / "photos", trained / "photos")
        shutil.rmtree(trained / "cache", ignore_errors=True)
        shutil.move(tmp_path / "cache", trained / "cache")
    assert json.loads((tmp_path / "eval.json").read_text())["results"]["psnr"] > 8
    assert "matching photos" not in done.stdout and state(capture_of(trained)) == before


@pytest.mark.slow
def test_a_second_run_and_a_resumed_one_take_the_poses_of_the_first(trained):
    for timestamp, more in (
        ("second", (*SIFT, *HOLD_OUT)),
        ("resumed", ("--load-dir", config_of(trained).parent / "nerfstudio_models", "--max-num-iterations", 8)),
    ):
        done = train(trained, Path("photos"), *QUICK, *more, timestamp=timestamp)
        assert "matching photos" not in done.stdout
        assert state(capture_of(trained, timestamp)) == state(capture_of(trained))


def config_for(data: Path, output: Path, **poses):
    config = deepcopy(fvgen_splat_cpu.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.timestamp = output, "now"
    config.pipeline.datamanager.poses = PoseOptions(**poses)
    return config


def test_a_checkpoint_of_other_photos_is_refused_before_any_work(trained, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "train_03.png").unlink()
    config = config_for(tmp_path / "photos", tmp_path / "outputs", matcher="sift")
    config.load_dir = config_of(trained).parent / "nerfstudio_models"
    with pytest.raises(InputError, match=r"--data must be what the checkpoint was trained on.*config\.yml"):
        pose_photos(config)
    config.data = config.pipeline.datamanager.data = photos
    config.pipeline.datamanager.poses = PoseOptions(matcher="sift", hold_out=2)
    with pytest.raises(InputError, match=r"datamanager\.poses must stay those of the run that goes on"):
        pose_photos(config)
    assert not (tmp_path / "outputs").exists()


def test_options_of_poses_are_refused_where_poses_are_known(tiny_room, tmp_path):
    pose_photos(config_for(tiny_room, tmp_path))
    with pytest.raises(InputError, match=r"datamanager\.poses must stay as it is for a capture"):
        pose_photos(config_for(tiny_room, tmp_path, hold_out=3))


def test_photos_that_cannot_be_placed_are_refused_with_a_picture_and_nothing_else(photos, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copyfile(photos / "train_00.png", tmp_path / "photos" / name)
    done = train(tmp_path, tmp_path / "photos", *SIFT, check=False)
    text = " ".join(done.stdout.split())
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    assert "2 different pictures" in text and "Take more photos" in text
    left = [path.name for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert left == ["capture_refused.png"] and not (tmp_path / "cache" / "fvgen").exists()


def test_what_is_refused_at_once_leaves_nothing(photos, tmp_path):
    (tmp_path / "one").mkdir()
    shutil.copyfile(photos / "train_00.png", tmp_path / "one" / "a.png")
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 cut off")
    (tmp_path / "cut.mp4").write_bytes(b"no film at all")
    for data, message in (
        ("one", "at least 2 photos, got 1"),
        ("cut.zip", "whole zip archive"),
        ("cut.mp4", "a video that PyAV reads"),
    ):
        with pytest.raises(InputError, match=message):
            pose_photos(config_for(tmp_path / data, tmp_path / "outputs", matcher="sift"))
    assert not (tmp_path / "outputs").exists()


def test_what_holds_photos_alone(photos, tiny_room, tmp_path):
    assert holds_photos_alone(photos) and not holds_photos_alone(tiny_room)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photos / "train_00.png", "holiday/1.png")
        archive.writestr("holiday/notes.txt", "words")
    assert holds_photos_alone(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "capture.zip", "w") as archive:
        archive.write(photos / "train_00.png", "images/1.png")
        archive.writestr("transforms.json", "{}")
    assert not holds_photos_alone(tmp_path / "capture.zip")  # to be unpacked, as its error says
    (tmp_path / "empty").mkdir()
    assert not holds_photos_alone(tmp_path / "empty") and not holds_photos_alone(tmp_path / "nowhere")


@pytest.mark.slow
def test_runs_and_masks_below_the_photos_are_no_photos(photos, tmp_path):
    folder = Path(shutil.copytree(photos, tmp_path / "photos"))
    (folder / "outputs" / "run").mkdir(parents=True)
    (folder / "outputs" / "run" / "config.yml").write_text("a run")
    (folder / "masks").mkdir()
    for name in ("outputs/run/render.png", "masks/train_00.png"):
        shutil.copyfile(photos / "train_00.png", folder / name)
    notes = photos_to_capture(folder, tmp_path / "capture", PoseOptions(matcher="sift"))
    assert notes[0].startswith("4 of 4 photos placed: ")
    assert any("looked for in masks, outputs/run: " in note for note in notes)
