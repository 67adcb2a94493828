"""scripts/generate_views.py as a user runs it: settings that cannot work are refused before anything is written."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio_commands import run
from PIL import Image

from fvgen.checks import InputError

SCRIPT = Path(__file__).parents[2] / "scripts/generate_views.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--geometry", "none"), "--geometry must give points to make views from, got none"),
        (("--frames-per-clip", "1"), "--frames-per-clip must be at least 2"),
        (("--working-size", "0"), "--working-size must be at least 16 pixels"),
    ],
    ids=["no geometry", "one frame", "no pixels"],
)
def test_bad_settings_are_refused_before_anything_is_written(tiny_room, tmp_path, options, message):
    where = ("--data", tiny_room, "--output", tmp_path / "views")
    done = run(SCRIPT, *where, *options, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "views").exists()


def test_finished_views_of_other_settings_are_not_thrown_away(tiny_room, tmp_path):
    views = tmp_path / "views"
    options = ("--data", tiny_room, "--output", views, "--geometry", "capture-depth")
    options += ("--generator", "points", "--frames-per-clip", 3)
    run(SCRIPT, *options, cwd=tmp_path, fresh=True)
    before = {path: path.read_bytes() for path in views.rglob("*") if path.is_file()}
    refused = run(SCRIPT, *options, "--seed", 1, cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "--output must be a new folder or hold views of this capture" in refused.stderr
    assert {path: path.read_bytes() for path in views.rglob("*") if path.is_file()} == before


def test_held_out_photos_and_masks_go_with_the_views(capture, tmp_path):
    """What a splat tool that is given the folder trains on, and what it compares with."""
    meta = json.loads((capture / "transforms.json").read_text())
    hidden = np.full((64, 96), 255, np.uint8)
    hidden[20:40, 30:60] = 0
    Image.fromarray(hidden).save(capture / "mask.png")
    masked = [meta["train_filenames"][0], meta["test_filenames"][1]]
    for frame in meta["frames"]:
        if frame["file_path"] in masked:
            frame["mask_path"] = "mask.png"
    (capture / "transforms.json").write_text(json.dumps(meta))
    folder = tmp_path / "views"
    options = ("--geometry", "capture-depth", "--frames-per-clip", 3)
    run(SCRIPT, "--data", capture, "--output", folder, *options, cwd=tmp_path)
    written = json.loads((folder / "transforms.json").read_text())
    frames = {frame["file_path"]: frame for frame in written["frames"]}
    sources = [frames[name]["fvgen"]["source"] for name in written["test_filenames"]]
    assert sources == [Path(name).name for name in meta["test_filenames"]]
    assert written["val_filenames"] == written["test_filenames"]
    assert set(written["train_filenames"]) == set(frames) - set(written["test_filenames"])
    for name, frame in frames.items():
        mask = np.asarray(Image.open(folder / frame["mask_path"]))
        is_masked = frame["fvgen"].get("source") in [Path(one).name for one in masked]
        assert mask.shape == (frame["h"], frame["w"]), name
        assert np.array_equal(mask, hidden) if is_masked else (mask == 255).all()
    for split, count in (("train", len(written["train_filenames"])), ("test", 2)):
        outputs = NerfstudioDataParserConfig(data=folder, load_3D_points=False).setup().get_dataparser_outputs(split)
        assert len(outputs.image_filenames) == len(outputs.mask_filenames) == count


def test_the_script_is_called_from_python_too(tiny_room, tmp_path):
    """As one does for several captures in one process."""
    spec = importlib.util.spec_from_file_location("generate_views_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with pytest.raises(InputError, match="--geometry must give points"):
        script.main(script.GenerateViews(data=tiny_room, output=tmp_path / "views", geometry="none"))
