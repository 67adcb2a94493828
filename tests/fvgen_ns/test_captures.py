"""ns-train on every kind of capture, good and bad, as a user runs it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from nerfstudio_commands import config_of, run, train
from other_captures import as_blender, as_colmap
from PIL import Image

QUICK = ("--max-num-iterations", 5)


def scores(cwd, capture_name: str = "run") -> dict:
    run("ns-eval", "--load-config", config_of(cwd, capture_name), "--output-path", cwd / "eval.json", cwd=cwd)
    return json.loads((cwd / "eval.json").read_text())["results"]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("convert", "parser"),
    [
        pytest.param(as_colmap, (), id="colmap"),
        pytest.param(as_blender, (), id="blender"),
        pytest.param(
            as_colmap, ("colmap", "--downscale-factor", 1, "--colmap-path", "sparse/0"), id="colmap by name", marks=slow
        ),
        pytest.param(as_blender, ("blender-data",), id="blender by name", marks=slow),
        pytest.param(None, ("nerfstudio-data",), id="nerfstudio-data by name", marks=slow),
    ],
)
def test_captures_of_other_tools(tiny_room, tmp_path, convert, parser):
    capture = convert(tiny_room, tmp_path / "capture") if convert else tiny_room
    train(tmp_path, capture, *QUICK, *parser)
    (folder,) = (tmp_path / "cache/fvgen").iterdir()
    frames = json.loads((folder / "transforms.json").read_text())["frames"]
    photos = sum(frame["fvgen"]["photo"] for frame in frames)
    assert photos >= 3 and len(frames) > photos
    assert scores(tmp_path)["psnr"] > 8


def gray(path):
    Image.open(path).convert("L").save(path)


def sixteen_bit(path):
    values = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
    Image.fromarray(values).save(path)


def with_alpha(path):
    image = Image.open(path).convert("RGBA")
    image.putalpha(255)
    image.save(path)


@slow
@pytest.mark.parametrize("change", [gray, sixteen_bit, with_alpha])
def test_photos_of_other_modes_are_read(capture, tmp_path, change):
    change(sorted((capture / "images").iterdir())[0])
    train(tmp_path, capture, *QUICK)


def spoil(capture, photos):
    """Cut photos off in the middle; the last of the training photos gets the pose of the one before."""
    meta = json.loads((capture / "transforms.json").read_text())
    for name in photos:
        (capture / name).write_bytes((capture / name).read_bytes()[:-200])
    meta["frames"][3]["transform_matrix"] = meta["frames"][2]["transform_matrix"]
    (capture / "transforms.json").write_text(json.dumps(meta))
    return meta


def test_what_cannot_be_used_is_left_out_and_the_run_says_so(capture, tmp_path):
    held_out = json.loads((capture / "transforms.json").read_text())["test_filenames"][0]
    repeated = spoil(capture, [held_out])["frames"][3]["file_path"]
    done = train(tmp_path, capture, *QUICK)
    notes = json.loads((config_of(tmp_path).parent / "fvgen_notes.json").read_text())
    (note,) = (note for note in notes if note.startswith("Left out: "))
    assert held_out in note and "truncated" in note and repeated in note and "its pose must differ" in note
    assert "Left out: " in done.stdout
    assert scores(tmp_path)["psnr"] > 8


def test_too_few_photos_are_refused_before_anything_is_written(capture, tmp_path):
    names = json.loads((capture / "transforms.json").read_text())["train_filenames"]
    spoil(capture, names[:2])
    done = train(tmp_path, capture, check=False)
    assert done.returncode == 2, done.stdout[-2000:]
    assert "at least 2 photos to train on, got 1" in done.stdout and "truncated" in done.stdout
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "cache").exists()


@slow
def test_photos_without_overlap_train_alone_and_the_run_says_so(capture, tmp_path):
    rng = np.random.default_rng(0)
    for path in (capture / "images").iterdir():
        size = Image.open(path).size
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    shutil.rmtree(capture / "depth", ignore_errors=True)
    meta = json.loads((capture / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame.pop("depth_file_path", None)
    (capture / "transforms.json").write_text(json.dumps(meta))
    done = train(tmp_path, capture, *QUICK)
    assert "do not overlap" in done.stdout
    notes = json.loads((config_of(tmp_path).parent / "fvgen_notes.json").read_text())
    assert any("do not overlap" in note for note in notes)


@slow
def test_given_views_are_trained_on_and_none_are_generated(tiny_room, tmp_path):
    train(tmp_path, tiny_room, *QUICK)
    (views,) = (tmp_path / "cache/fvgen").iterdir()
    shutil.move(views, tmp_path / "views")
    train(tmp_path, tiny_room, *QUICK, "--pipeline.datamanager.densify.views", tmp_path / "views", timestamp="given")
    (made,) = (tmp_path / "cache/fvgen").iterdir()
    frames = json.loads((made / "transforms.json").read_text())["frames"]
    assert all(frame["fvgen"]["photo"] for frame in frames)
