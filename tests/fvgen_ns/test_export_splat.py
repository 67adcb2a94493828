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
from viewer_page import wait_for

from fvgen import Gaussians, read_splat, resolve
from fvgen.files import store
from fvgen.geometry.photo_order import focus_point
from fvgen.metrics import psnr
from fvgen.splats.web import FORMATS
from fvgen_ns.checkpoint import GAUSSIANS
from fvgen_ns.cli import main
from fvgen_ns.config_file import config_text, make_paths_absolute
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.trained_splat import read_trained_splat


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
    x, y, z = splat.means[kept].T
    torch.testing.assert_close(found.means, torch.stack([x, -z, y], dim=1))  # up was z, and is -y
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


@pytest.mark.slow
def test_a_page_in_a_browser_shows_what_the_model_draws(tmp_path, tiny_room, browser):
    if not shutil.which("splat-transform"):
        pytest.skip("no splat-transform: npm install -g @playcanvas/splat-transform")
    run = write_run(tmp_path, tiny_room, random_splat(terms=16))
    for suffix in FORMATS:
        assert main(["export", str(run), "--output", str(tmp_path / f"splat{suffix}")]) == 0
        assert (tmp_path / f"splat{suffix}").stat().st_size > 500
    browser.set_window_size(640, 543)
    browser.get(f"file://{tmp_path / 'splat.html'}?noui&noanim")  # it would move about until somebody takes over
    trained = read_trained_splat(run)

    def agreement() -> float:
        page = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
        camera = trained.cameras[0].covering(page.height, page.width)
        splat = trained.gaussians
        parts = (splat.means, splat.quats, splat.scales.exp(), splat.opacities.sigmoid(), splat.sh)
        drawn = resolve("auto", "cpu").rasterize(*parts, camera, splat.degree, torch.tensor([0.15, 0.16, 0.22]))
        shown = torch.from_numpy(np.array(page)).permute(2, 0, 1) / 255
        return float(psnr(shown, drawn.rgb[0].permute(2, 0, 1)))

    wait_for(lambda: agreement() > 22, 90, "showing the splat as the model draws it")
