"""benchmarks/generator.py as a stranger runs it: on captures of their own."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from nerfstudio_commands import run
from PIL import Image

from fvgen.checks import InputError
from fvgen.evaluation.held_out import held_out_clips, train_and_test

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "generator.py"


def test_figures_of_a_capture(tiny_room, tmp_path):
    (tmp_path / "captures").mkdir()
    shutil.copytree(tiny_room, tmp_path / "captures" / "room")
    file = tmp_path / "new" / "folder" / "figures.json"
    asked = ("--captures", tmp_path / "captures", "--output", file, "--methods", "render", "inpaint", "warp")
    run(SCRIPT, *asked, "--pictures", tmp_path / "pictures", cwd=tmp_path)
    figures = json.loads(file.read_text(), parse_constant=pytest.fail)  # NaN is no JSON
    assert set(figures["captures"]) == {"room"} and figures["mean"] == figures["captures"]["room"]
    assert set(figures["mean"]) == {"render", "inpaint", "warp"}
    for scores in figures["mean"].values():
        assert {"psnr", "covered", "holes", "seconds", "sharpness"} == set(scores)
    assert figures["mean"]["warp"]["psnr"] > figures["mean"]["render"]["psnr"]
    assert str(tmp_path) not in file.read_text()
    assert (tmp_path / "pictures" / "figures_room.jpg").is_file()
    assert {path.name for path in file.parent.iterdir()} == {"figures.json", "figures_calibration.png"}


def without_test_photos(folder):
    meta = json.loads((folder / "transforms.json").read_text())
    del meta["test_filenames"], meta["val_filenames"]
    (folder / "transforms.json").write_text(json.dumps(meta))


def test_a_capture_that_holds_nothing_back_is_refused_before_work(tiny_room, tmp_path):
    (tmp_path / "captures").mkdir()
    without_test_photos(Path(shutil.copytree(tiny_room, tmp_path / "captures" / "room")))
    asked = ("--captures", tmp_path / "captures", "--output", tmp_path / "out" / "figures.json")
    done = run(SCRIPT, *asked, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stderr.startswith("capture room must hold photos back in test_filenames")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def held_out_photos():
    """The benchmark's part that needs none of its neighbours."""
    spec = importlib.util.spec_from_file_location("held_out_photos", SCRIPT.with_name("held_out_photos.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_captures_are_chosen_by_name(held_out_photos, tiny_room, tmp_path):
    shutil.copytree(tiny_room, tmp_path / "room")
    shutil.copytree(tiny_room, tmp_path / "hall")
    assert held_out_photos.chosen_captures(tmp_path, []) == ["hall", "room"]
    assert held_out_photos.chosen_captures(tmp_path, ["room"]) == ["room"]
    with pytest.raises(InputError, match="--only must name captures out of hall, room, got attic"):
        held_out_photos.chosen_captures(tmp_path, ["room", "attic"])
    with pytest.raises(InputError, match="--captures must be a folder of captures"):
        held_out_photos.chosen_captures(tiny_room, [])


def test_photos_of_two_shapes_come_at_one_size(capture):
    path = capture / "transforms.json"
    meta = json.loads(path.read_text())
    frame = next(frame for frame in meta["frames"] if frame["file_path"] == meta["test_filenames"][0])
    for name in ("file_path", "depth_file_path"):
        with Image.open(capture / frame[name]) as image:
            turned = image.transpose(Image.Transpose.ROTATE_90)
        turned.save(capture / frame[name])
    frame |= {"w": meta["h"], "h": meta["w"], "cx": meta["cy"], "cy": meta["cx"]}
    path.write_text(json.dumps(meta))
    train, test = train_and_test(capture, 96)
    assert train.photos.shape == (4, 3, 64, 96) and test.photos.shape == (2, 3, 64, 96)
    assert train.depths.shape == (4, 64, 96) and len(train.sparse) > 0
    assert sum(len(members) for _, members in held_out_clips(train, test)) == 2
