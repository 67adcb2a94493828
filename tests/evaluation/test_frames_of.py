"""Frames as other programs leave them."""

import numpy as np
import pytest
import torch
from PIL import Image

from fvgen.checks import InputError
from fvgen.evaluation.frames_of import match_frames, read_frames
from fvgen.pictures import write_mp4


def save(folder, *stems):
    folder.mkdir(parents=True, exist_ok=True)
    for i, stem in enumerate(stems):
        Image.fromarray(np.full((16, 16, 3), 10 * i, dtype=np.uint8)).save(folder / f"{stem}.png")


def test_pictures_come_in_natural_order(tmp_path):
    save(tmp_path, "frame10", "frame2", "frame1")
    assert list(read_frames(tmp_path)) == ["frame1", "frame2", "frame10"]


def test_depthsplat_keeps_pictures_in_color_beside_the_true_ones(tmp_path):
    save(tmp_path / "color", "000003", "000003_gt", "000005")
    frames = read_frames(tmp_path)
    assert list(frames) == ["000003", "000005"]
    assert frames["000005"]().mean() == pytest.approx(20 / 255)


def test_viewcrafter_keeps_films(tmp_path):
    for number, grey in ((10, 0.9), (2, 0.1)):
        write_mp4(tmp_path / f"diffusion{number}.mp4", torch.full((3, 3, 32, 32), grey))
    write_mp4(tmp_path / "render0.mp4", torch.zeros(3, 3, 32, 32))
    frames = read_frames(tmp_path)
    assert len(frames) == 6 and next(iter(frames)) == "diffusion2-000000"
    assert [round(float(frame().mean()), 1) for frame in frames.values()] == [0.1] * 3 + [0.9] * 3


@pytest.mark.parametrize(
    ("drawn", "pairs", "rule"),
    [
        (["b", "a"], [("a", "a"), ("b", "b")], "name"),
        (["000001", "000003"], [("000001", "b"), ("000003", "d")], "index"),
        (["w", "x", "y", "z"], [("w", "a"), ("x", "b"), ("y", "c"), ("z", "d")], "order"),
    ],
)
def test_frames_find_their_photos(tmp_path, drawn, pairs, rule):
    save(tmp_path / "drawn", *drawn)
    save(tmp_path / "real", "a", "b", "c", "d")
    found = match_frames(read_frames(tmp_path / "drawn"), read_frames(tmp_path / "real"), tmp_path, tmp_path)
    assert found == (pairs, rule)


def test_frames_that_fit_no_photo_are_refused(tmp_path):
    save(tmp_path / "drawn", "x", "y")
    save(tmp_path / "real", "a", "b", "c")
    with pytest.raises(InputError, match="must bear the names"):
        match_frames(read_frames(tmp_path / "drawn"), read_frames(tmp_path / "real"), tmp_path, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="frames must be pictures"):
        read_frames(tmp_path / "empty")
    (tmp_path / "cut.mp4").write_bytes(b"no film")
    with pytest.raises(InputError, match="must be readable"):
        read_frames(tmp_path / "cut.mp4")
