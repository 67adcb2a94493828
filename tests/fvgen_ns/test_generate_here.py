"""Views that a user asks for in the viewer: paths, their storage, and a real run that is steered in a real browser."""

import json
import math
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from nerfstudio_commands import BIN, config_of, run, run_environment, training
from viewer_page import Page, answers, free_port, wait_for

from fvgen.generation.trials import Trials
from fvgen.geometry.cameras import look_at
from fvgen.geometry.trajectory import clips_of
from fvgen.types import Cameras
from fvgen_ns.generate_here import FOLDER, WITH, WITHOUT, Added, path_through
from fvgen_ns.viewer.generation import outcome


def around(*degrees: float) -> torch.Tensor:
    """[N, 4, 4] cameras on a circle, looking at its centre."""
    angles = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    places = torch.stack([angles.cos(), torch.zeros_like(angles), angles.sin()], dim=1)
    return look_at(places, torch.zeros(3, dtype=torch.float64), torch.tensor([0.0, -1, 0], dtype=torch.float64)).float()


@pytest.fixture
def photos() -> Cameras:
    K = torch.tensor([[[50.0, 0, 32], [0, 50.0, 24], [0, 0, 1]]]).repeat(3, 1, 1)
    return Cameras(around(0, 60, 120), K, 48, 64)


def test_a_path_goes_from_the_nearest_photo_through_all_places(photos):
    poses = around(70, 100)
    path = path_through(photos, poses, 5)
    assert path.photo.tolist() == [1] + 8 * [-1]
    assert torch.equal(path.cameras.c2w[0], photos.c2w[1])
    torch.testing.assert_close(path.cameras.c2w[4], poses[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(path.cameras.c2w[8], poses[1], atol=1e-5, rtol=0)
    assert len(clips_of(path)) == 1  # so that each network is shown the photo


@pytest.mark.parametrize("places", [(70,), (70, 100, 80)])
def test_a_network_of_fixed_length_gets_a_photo_at_both_ends(photos, places):
    path = path_through(photos, around(*places), fixed=16)
    assert len(path) == 16 and len(clips_of(path)) == 1
    assert path.photo[0] == 1 and path.photo[-1] in (0, 2) and bool((path.photo[1:-1] < 0).all())
    for end in (0, -1):
        assert torch.equal(path.cameras.c2w[end], photos.c2w[path.photo[end]])


def test_the_outcome_is_said_in_numbers():
    better = Trials({WITH: (0.09, 0.09), WITHOUT: (0.1, 0.1)})
    assert "AVGE 10.5% lower with them, ± 0.0%" in outcome(Added(9, "a.png", better))
    worse = Trials({WITH: (0.1, 0.1), WITHOUT: (0.09, 0.09)})
    assert outcome(Added(0, "a.png", worse)).startswith("Nothing was added")
    assert "too few photos" in outcome(Added(9, "a.png", Trials({})))


@contextmanager
def training_run(cwd: Path, capture: Path, browser):
    """The page of a long ns-train with a viewer, and its process."""
    port = free_port()
    options = ("--max-num-iterations", 100_000, "--steps-per-save", 50, "--vis", "viewer")
    viewer = ("--viewer.websocket-port", port, "--viewer.websocket-host", "127.0.0.1")
    line = [str(BIN / "ns-train"), *training(capture, *options, *viewer)]
    with (cwd / "train.log").open("w") as log:
        process = subprocess.Popen(line, cwd=cwd, env=run_environment(cwd), stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: answers(port), 200, "listening")
        browser.get(f"http://127.0.0.1:{port}")
        page = Page(browser)
        wait_for(lambda: page.found("//*[text()='Generated views (orange)']"), 60, "showing the panel")
        page.wait_for_text("Gaussians", 120)
        yield page, process
    finally:
        process.kill()
        process.wait()


def provenance(folder: Path) -> dict:
    meta = json.loads((folder / "transforms.json").read_text())
    assert not any(frame["fvgen"]["photo"] for frame in meta["frames"])
    assert all((folder / frame["file_path"]).is_file() for frame in meta["frames"])
    assert {frame["fvgen"]["generator"] for frame in meta["frames"]} == {"warp"}
    return meta["fvgen"] | {"count": len(meta["frames"])}


@pytest.mark.slow
def test_views_are_generated_where_the_user_stands_and_join_the_training(tiny_room, tmp_path, browser):
    views = config_of(tmp_path).parent / FOLDER
    pictures = Path(os.environ.get("FVGEN_TEST_PICTURES", tmp_path))
    with training_run(tmp_path, tiny_room, browser) as (page, process):
        page.press("Generate along path")
        page.wait_for_text("The Render tab has no path")
        page.step_back()
        page.press("Generate here")
        page.wait_for_text("trials, photos left out", 120)
        page.press("Cancel")
        page.wait_for_text("Cancelled: nothing was added.", 120)
        assert not views.exists()

        page.press("Generate here")
        said = page.wait_for_text("are trained on now", 240)
        assert "from train_0" in said and "Photos left out: AVGE" in said
        about = provenance(views / "000")
        assert about["step"] > 0 and len(about["asked_for"]) == 1 and set(about["trials"]) == {WITH, WITHOUT}
        first = about["count"]
        page.wait_for_text(f"4 photos, {6 + first} generated views", 60)
        browser.save_screenshot(str(pictures / "generate_here.png"))

        page.open_tab("Render")
        page.press("Add Keyframe")
        page.step_back()
        page.press("Add Keyframe")
        page.press("Generate along path")
        wait_for((views / "001/transforms.json").is_file, 240, "writing views along the path")
        along = provenance(views / "001")
        assert len(along["asked_for"]) == 2
        page.wait_for_text(f"4 photos, {6 + first + along['count']} generated views", 60)
        page.press("Undo")
        page.wait_for_text(f"{along['count']} views were taken away again.", 60)
        assert [folder.name for folder in views.iterdir()] == ["000"]
        page.wait_for_text(f"4 photos, {6 + first} generated views", 60)

        checkpoints = config_of(tmp_path).parent / "nerfstudio_models"
        before = set(checkpoints.glob("*.ckpt"))
        wait_for(lambda: set(checkpoints.glob("*.ckpt")) - before, 120, "training on")
        assert process.poll() is None and page.own_errors() == []
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)

    (checkpoint,) = checkpoints.glob("*.ckpt")
    steps = int(checkpoint.stem.removeprefix("step-")) + 21
    line = training(tiny_room, "--max-num-iterations", steps, "--load-dir", checkpoints, timestamp="resumed")
    done = run("ns-train", *line, cwd=tmp_path)
    assert f"{first} views that were generated in the viewer are trained on again." in done.stdout
    assert f"{6 + first} generated views" in done.stdout
    assert provenance(config_of(tmp_path, "resumed").parent / FOLDER / "000")["asked_for"] == about["asked_for"]
