"""The plugin through Nerfstudio's own commands, as a user runs them, on a small capture."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio_commands import STEPS, cache_state, config_of, run, train
from plyfile import PlyData

from fvgen import read_splat
from fvgen_ns.report.figures import RunFigures


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_room) -> Path:
    """A folder in which ns-train has run on the small capture, with relative paths."""
    cwd = tmp_path_factory.mktemp("nerfstudio")
    shutil.copytree(tiny_room, cwd / "capture")
    done = train(cwd, Path("capture"), fresh=True)
    assert config_of(cwd).is_file()
    assert f"fvgen-splat-cpu on cpu, --quality quick: {STEPS} steps (--max-num-iterations)" in done.stdout
    assert ".amp." not in done.stderr  # what no user can act on is not shown
    assert "FVGenTrainerConfig" not in done.stdout and len(done.stdout.splitlines()) < 100
    assert f"{STEPS}/{STEPS} PSNR" in done.stdout  # the bar of training, once
    return cwd


def test_training_keeps_views_in_the_cache_and_says_where_they_come_from(trained):
    (folder,) = (trained / "cache/fvgen").iterdir()
    meta = json.loads((folder / "transforms.json").read_text())
    kinds = [frame["fvgen"]["photo"] for frame in meta["frames"]]
    assert sum(kinds) == 4 and len(kinds) > 4
    generated = next(frame for frame in meta["frames"] if not frame["fvgen"]["photo"])
    assert generated["fvgen"]["generator"] == meta["fvgen"]["generator"] == "warp"
    for key in ("file_path", "depth_file_path", "confidence_file_path", "covered_file_path"):
        assert (folder / generated[key]).is_file()


def test_eval_reads_the_cache_and_measures_held_out_photos_from_any_folder(trained, tmp_path):
    before = cache_state(trained)
    result = trained / "eval.json"
    where = ("--load-config", config_of(trained), "--output-path", result)
    run("ns-eval", *where, cwd=trained, folder=tmp_path, fresh=True)
    scores = json.loads(result.read_text())["results"]
    figures = RunFigures.read(config_of(trained).parent)
    assert figures.photos == "held-out photos"
    for name in ("psnr", "ssim", "st_lpips"):  # the table at the end of training says what ns-eval says
        assert figures.metrics[name] == pytest.approx(scores[name], abs=1e-3)
    assert 10 < scores["psnr"] < 60 and 0 < scores["ssim"] <= 1 and scores["psnr_affine"] >= scores["psnr"] - 0.01
    assert cache_state(trained) == before


def test_export_writes_a_finite_splat_from_any_folder(trained, tmp_path):
    where = ("--load-config", config_of(trained), "--output-dir", "splat")
    run("ns-export", "gaussian-splat", *where, cwd=trained, folder=tmp_path)
    vertices = PlyData.read(tmp_path / "splat/splat.ply")["vertex"]
    assert len(vertices) > 100
    assert all(np.isfinite(vertices[name]).all() for name in ("x", "y", "z", "opacity", "scale_0", "rot_0"))


def test_the_report_opens_without_a_network(trained):
    page = (config_of(trained).parent / "report.html").read_text()
    assert page.count("<img src='data:image/jpeg;base64,") == 2 * 3  # held-out photos: photo, render, difference
    assert "<video" in page and "data:video/mp4;base64," in page
    assert "src='http" not in page and "href='http" not in page
    assert "fvgen export" in page and "The splat was not trained on them." in page


def test_export_turns_what_nerfstudio_exports(trained, tmp_path):
    where = ("--load-config", config_of(trained), "--output-dir", tmp_path)
    run("ns-export", "gaussian-splat", *where, cwd=trained)
    up = ("--up", 0, 0, 1)
    run("fvgen", "export", config_of(trained).parent, "--output", tmp_path / "upright.ply", *up, cwd=trained)
    theirs, ours = read_splat(tmp_path / "splat.ply"), read_splat(tmp_path / "upright.ply")
    upright = theirs.turned(torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]))  # z becomes -y
    for name in ("means", "quats", "scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(ours, name), getattr(upright, name), atol=1e-5, rtol=1e-5)


def test_render_dataset_and_interpolate(trained):
    before = cache_state(trained)
    where = ("--load-config", config_of(trained), "--output-path", "renders")
    run("ns-render", "dataset", *where, "--split", "train+test", "--rendered-output-names", "rgb", cwd=trained)
    renders = {path.relative_to(trained / "renders").as_posix() for path in (trained / "renders").rglob("*.jpg")}
    photos = {f"train/rgb/train_0{i}.jpg" for i in range(4)} | {f"test/rgb/test_0{i}.jpg" for i in (4, 5)}
    assert photos < renders
    assert all(name.startswith("train/rgb/generated/") for name in renders - photos)  # not by their cache's path
    run(
        "ns-render",
        "interpolate",
        "--load-config",
        config_of(trained),
        "--output-path",
        "video.mp4",
        "--interpolation-steps",
        2,
        "--pose-source",
        "train",
        "--output-format",
        "images",
        cwd=trained,
    )
    assert list((trained / "video").glob("*.jpg"))
    assert cache_state(trained) == before


def test_render_camera_path(trained):
    path = {
        "camera_type": "perspective", "render_height": 48, "render_width": 64, "fps": 2, "seconds": 1,
        "camera_path": [
            {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 60, "aspect": 1.33} for _ in range(2)
        ],
    }  # fmt: skip
    (trained / "path.json").write_text(json.dumps(path))
    run(
        "ns-render",
        "camera-path",
        "--load-config",
        config_of(trained),
        "--camera-path-filename",
        "path.json",
        "--output-path",
        "path.mp4",
        "--output-format",
        "images",
        cwd=trained,
    )
    assert len(list((trained / "path").glob("*.jpg"))) == 2


def test_resume_goes_on_from_the_checkpoint_and_moves_the_gaussians(trained, tiny_room):
    before = cache_state(trained)
    folder = config_of(trained).parent / "nerfstudio_models"
    first = torch.load(folder / f"step-{STEPS - 1:09d}.ckpt", weights_only=True)
    total = STEPS + 15
    done = train(trained, tiny_room, "--load-dir", folder, "--max-num-iterations", total, timestamp="resumed")
    assert f"{STEPS} iterations are done, 15 to go" in done.stdout
    (last,) = (config_of(trained, "resumed").parent / "nerfstudio_models").glob("*.ckpt")
    second = torch.load(last, weights_only=True)
    assert second["step"] == total - 1
    name = "_model.gauss_params.features_dc"
    assert first["pipeline"][name].shape == second["pipeline"][name].shape
    assert (first["pipeline"][name] - second["pipeline"][name]).abs().max() > 1e-3
    assert cache_state(trained) == before


def test_a_total_that_is_reached_is_refused_and_writes_nothing(trained):
    folder = config_of(trained).parent / "nerfstudio_models"
    done = train(trained, Path("capture"), "--load-dir", folder, timestamp="again", check=False)
    assert done.returncode == 2 and "This total is reached" in done.stdout and "Traceback" not in done.stderr
    assert not config_of(trained, "again").parent.exists()


def test_a_command_that_needs_rays_is_refused_in_one_line(trained):
    done = run("ns-render", "spiral", "--load-config", config_of(trained), cwd=trained, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stdout.startswith("ns-render spiral must have a method that can be asked along a ray")


def test_sizes_of_a_short_run_learn_faster(trained):
    saved = torch.load(next(config_of(trained).parent.glob("nerfstudio_models/*.ckpt")), weights_only=True)
    (group,) = saved["optimizers"]["scales"]["param_groups"]
    assert group["lr"] == pytest.approx(10 * 5e-3)  # the most that `fvgen_ns.schedules` gives


def test_a_damaged_cache_is_made_anew(trained, tmp_path):
    for name in ("cache", "capture"):
        shutil.copytree(trained / name, tmp_path / name)
    (folder,) = (tmp_path / "cache/fvgen").iterdir()
    generated = sorted((folder / "confidence").iterdir())[0]
    whole = generated.read_bytes()
    generated.write_bytes(whole[: len(whole) // 2])
    (folder / "frames/.half.json.unfinished").write_text("{")
    train(tmp_path, Path("capture"), "--max-num-iterations", 2)
    assert generated.read_bytes() == whole


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: shutil.rmtree(c), "must exist"),
        (lambda c: [path.unlink() for path in c.rglob("*.*")], "fvgen poses PHOTOS CAPTURE"),
        (lambda c: shutil.rmtree(c / "images"), "at least 2 photos to train on, got 0"),
    ],
    ids=["no folder", "no description", "no photos"],
)
def test_bad_captures_are_refused_before_anything_is_written(tiny_room, tmp_path, spoil, message):
    capture = tmp_path / "capture"
    shutil.copytree(tiny_room, capture)
    spoil(capture)
    done = train(tmp_path, capture, check=False)
    assert done.returncode == 2
    assert message in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "outputs").exists() and not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_photos_alone_are_trained_too_and_compared(tiny_room, tmp_path):
    done = train(tmp_path, tiny_room, "--compare")
    folder = config_of(tmp_path).parent
    alone, ours = RunFigures.read(folder.with_name("run-photos-only")), RunFigures.read(folder)
    assert alone.counts["generated views"] == 0 < ours.counts["generated views"]
    assert alone.counts["steps"] == ours.counts["steps"] == STEPS
    assert f"{alone.metrics['psnr']:.2f}" in done.stdout and f"{ours.metrics['psnr']:.2f}" in done.stdout
    page = (folder / "report.html").read_text()
    assert page.count("<img src='data:image/jpeg;base64,") == 2 * 4 and "<th>photos only</th>" in page
