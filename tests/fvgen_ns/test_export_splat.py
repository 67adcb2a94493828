"""``fvgen export`` on a run's folder."""

from __future__ import annotations

import io
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_splats import random_splat
from run_report import report
from viewer_page import Page, wait_for

from fvgen import Cameras, Gaussians, read_splat, resolve
from fvgen.files import store
from fvgen.geometry.cameras import unproject
from fvgen.geometry.photo_order import focus_point
from fvgen.metrics import psnr
from fvgen.splats.web import FORMATS
from fvgen_ns.checkpoint import GAUSSIANS
from fvgen_ns.cli import main
from fvgen_ns.config_file import config_text, make_paths_absolute
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.report.page import report_html
from fvgen_ns.splat.trained import read_trained_splat


def write_run(folder: Path, data: Path, splat: Gaussians, is_background: torch.Tensor | None = None) -> Path:
    """A run's folder as ns-train leaves it."""
    config = deepcopy(fvgen_splat_cpu.config)
    config.data = config.pipeline.datamanager.data = data
    config.output_dir, config.experiment_name, config.timestamp = folder, "small", "run"
    make_paths_absolute(config)
    run = config.get_base_dir()
    store(run / "config.yml", config_text(config).encode())
    parameters = {
        "means": splat.means,
        "quats": splat.quats,
        "scales": splat.scales,
        "opacities": splat.opacities[:, None],
        "features_dc": splat.sh[:, 0],
        "features_rest": splat.sh[:, 1:],
    }
    pipeline = {GAUSSIANS + name: value for name, value in parameters.items()}
    if is_background is not None:
        pipeline["_model.is_background"] = is_background
    (run / "nerfstudio_models").mkdir()
    state = {"step": 9, "pipeline": pipeline, "optimizers": {}, "schedulers": {}, "scalers": {}}
    torch.save(state, run / "nerfstudio_models/step-000000009.ckpt")
    return run


@pytest.fixture
def no_node(monkeypatch, tmp_path):
    """A machine without splat-transform."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def test_a_splat_is_turned_upright_and_broken_gaussians_are_left_out(tmp_path, tiny_room, capsys):
    splat = random_splat()
    splat.means[7, 2] = float("nan")
    run = write_run(tmp_path, tiny_room, splat)
    assert main(["export", str(run), "--output", str(tmp_path / "splat.ply")]) == 0
    printed = capsys.readouterr().out
    assert "Left out 1 Gaussians whose numbers are not finite." in printed
    assert "39 of 40 Gaussians in" in printed
    found, kept = read_splat(tmp_path / "splat.ply"), splat.finite()
    turned = torch.linalg.lstsq(splat.means[kept], found.means).solution
    torch.testing.assert_close(turned @ turned.T, torch.eye(3), atol=1e-4, rtol=0)
    cameras = read_trained_splat(run).cameras
    assert (cameras.c2w[:, :3, 0] @ turned)[:, 1].abs().max() < 0.01  # y, as the room's photos were held level
    assert (cameras.c2w[:, :3, 1] @ turned)[:, 1].min() > 0.5  # down in the photos
    assert torch.equal(found.scales, splat.scales[kept])


def test_another_up_can_be_named(tmp_path, tiny_room):
    splat = random_splat()
    run = write_run(tmp_path, tiny_room, splat)
    line = ["export", str(run / "config.yml"), "--output", str(tmp_path / "splat.ply"), "--up", "0", "-1", "0"]
    assert main(line) == 0
    torch.testing.assert_close(read_splat(tmp_path / "splat.ply").means, splat.means)


def test_the_background_that_the_model_names_is_left_out(tmp_path, tiny_room):
    run = write_run(tmp_path, tiny_room, random_splat(), torch.arange(40) >= 30)
    assert main(["export", str(run), "--output", str(tmp_path / "splat.ply"), "--no-background"]) == 0
    assert len(read_splat(tmp_path / "splat.ply")) == 30


def test_without_that_far_gaussians_are_the_background(tmp_path, tiny_room, capsys):
    splat = random_splat()
    run = write_run(tmp_path, tiny_room, splat)
    centre = focus_point(read_trained_splat(run).cameras).float()
    splat.means[:] = centre
    splat.means[5] += 100
    run = write_run(tmp_path / "again", tiny_room, splat)
    assert main(["export", str(run), "--output", str(tmp_path / "splat.ply"), "--no-background"]) == 0
    assert "The model does not say which Gaussians are background" in capsys.readouterr().out
    assert len(read_splat(tmp_path / "splat.ply")) == 39
    assert main(["export", str(run), "--output", str(tmp_path / "splat.ply"), "--crop", "1000"]) == 0
    assert len(read_splat(tmp_path / "splat.ply")) == 40


@pytest.mark.parametrize("suffix", FORMATS)
def test_without_node_the_ply_is_there_and_the_command_is_named(tmp_path, tiny_room, no_node, capsys, suffix):
    run = write_run(tmp_path, tiny_room, random_splat())
    assert main(["export", str(run), "--output", str(tmp_path / f"splat{suffix}")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "Run: npx @playcanvas/splat-transform" in error
    assert (tmp_path / "splat.ply").is_file() and not (tmp_path / f"splat{suffix}").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "splat.obj"], "--output must end in .ply"),
        (["--output", "splat.ply", "--crop", "0"], "--crop must be positive"),
        (["--output", "splat.ply", "--up", "0", "0", "0"], "--up must be a direction"),
        (["--output", "splat.ply"], "RUN must be the folder of a run"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, options, message):
    assert main(["export", str(tmp_path), *options]) == 2
    assert capsys.readouterr().err.startswith(message)


def patchwork(camera: Cameras, patch: int = 8) -> Gaussians:
    """A Gaussian behind each pixel of a camera, some nearer and some farther, in patches of one colour."""
    g = torch.Generator().manual_seed(0)
    height, width = camera.height, camera.width
    means = unproject(1 + torch.rand(1, height, width, generator=g), camera).reshape(-1, 3)
    colours = torch.rand(-(-height // patch), -(-width // patch), 3, generator=g) - 0.5
    colours = colours.repeat_interleave(patch, 0)[:height].repeat_interleave(patch, 1)[:, :width].reshape(-1, 1, 3)
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4),
        scales=torch.full_like(means, -4.3),
        opacities=torch.full((len(means),), 3.0),
        sh=torch.cat([3 * colours, torch.zeros(len(means), 15, 3)], dim=1),
    )


@pytest.fixture
def patchwork_run(tiny_room, tmp_path) -> Path:
    """A run whose splat shows by sharp edges where a page has put it."""
    if not shutil.which("splat-transform"):
        pytest.skip("no splat-transform: npm install -g @playcanvas/splat-transform")
    camera = read_trained_splat(write_run(tmp_path / "cameras", tiny_room, random_splat())).cameras[0]
    return write_run(tmp_path, tiny_room, patchwork(camera))


def agreement(picture: bytes, run: Path) -> float:
    """PSNR of a browser's picture against what the model draws for the first photo's camera."""
    page = Image.open(io.BytesIO(picture)).convert("RGB")
    trained = read_trained_splat(run)
    camera, splat = trained.cameras[0].covering(page.height, page.width), trained.gaussians
    parts = (splat.means, splat.quats, splat.scales.exp(), splat.opacities.sigmoid(), splat.sh)
    drawn = resolve("auto", "cpu").rasterize(*parts, camera, splat.degree, torch.tensor([0.15, 0.16, 0.22]))
    shown = torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255
    return float(psnr(shown, drawn.rgb[0].permute(2, 0, 1)))


STILL = "?noui&noanim"
"""A page would move about until somebody takes over."""


@pytest.mark.slow
def test_a_page_in_a_browser_shows_what_the_model_draws(tmp_path, patchwork_run, browser):
    for suffix in FORMATS:
        assert main(["export", str(patchwork_run), "--output", str(tmp_path / f"splat{suffix}")]) == 0
        assert (tmp_path / f"splat{suffix}").stat().st_size > 500
    browser.set_window_size(640, 543)
    browser.get(f"file://{tmp_path / 'splat.html'}{STILL}")
    shows = lambda: agreement(browser.get_screenshot_as_png(), patchwork_run) > 32  # noqa: E731
    wait_for(shows, 90, "showing the splat as the model draws it")


@pytest.mark.slow
def test_a_report_shows_the_splat_without_any_other_file(tmp_path, patchwork_run, browser):
    assert main(["export", str(patchwork_run), "--output", str(tmp_path / "splat.html")]) == 0
    alone = tmp_path / "sent to somebody" / "report.html"
    alone.parent.mkdir()
    alone.write_text(report_html(report(viewer=(tmp_path / "splat.html").read_text())))
    browser.get(f"{alone.as_uri()}{STILL}")
    (frame,) = browser.find_elements("tag name", "iframe")
    browser.execute_script("arguments[0].scrollIntoView()", frame)
    shows = lambda: agreement(frame.screenshot_as_png, patchwork_run) > 28  # noqa: E731
    wait_for(shows, 90, "showing the splat as the model draws it")
    assert Page(browser).own_errors() == []
