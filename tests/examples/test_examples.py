"""The examples, each run on a little data."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from fvgen import load_views, read_splat, resolve
from fvgen.metrics import psnr
from fvgen.procedural.rooms.capture import RoomCapture, write_room_capture

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def example(monkeypatch):
    """The ``main`` of an example by its file's name."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return lambda name: import_module(name).main


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) < 60


def test_photos_become_views_and_views_a_splat(example, tmp_path):
    write_room_capture(tmp_path / "room", seed=0, layout=RoomCapture(width=96, height=64, train=3, test=0, points=100))
    example("photos_to_views")(tmp_path / "room", tmp_path / "views")
    views = load_views(tmp_path / "views")
    assert int(views.is_photo.sum()) == 3
    assert len(views) > 10

    example("views_to_splat")(tmp_path / "views", tmp_path / "splat.ply", steps=60, voxel=0.05)
    splat = read_splat(tmp_path / "splat.ply")
    parts = (splat.means, splat.quats, splat.scales.exp(), splat.opacities.sigmoid(), splat.sh)
    drawn = resolve("auto", "cpu").rasterize(*parts, views.cameras[views.is_photo], 0, torch.full((3,), 0.5))
    photos = views.rgb[views.is_photo]
    mean_colour = photos.mean(dim=(0, 2, 3), keepdim=True).expand_as(photos)
    assert float(psnr(drawn.rgb.permute(0, 3, 1, 2), photos)) > float(psnr(mean_colour, photos)) + 2


def test_a_splat_is_fitted_without_nerfstudio():
    text = (EXAMPLES / "views_to_splat.py").read_text()
    assert not re.search(r"^(from|import) (nerfstudio|fvgen_ns)", text, re.MULTILINE)


def test_a_toy_teacher_is_distilled_in_two_stages(example, tmp_path):
    clip = example("two_stage_distillation")(tmp_path, 2)
    assert clip.shape == (1, 4, 3, 8, 8)
    assert bool(torch.isfinite(clip).all())
    for stage in ("stage1", "stage2"):
        assert len(list((tmp_path / stage / "checkpoints").iterdir())) == 1
        assert len((tmp_path / stage / "log.jsonl").read_text().splitlines()) >= 2
