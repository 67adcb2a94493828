"""Sparse points and measured depth that come with a transforms.json."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transforms_edits import edit, first, only_left_out

from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.points import read_ply


@pytest.mark.parametrize("state", ["not named", "missing", "zero bytes", "zero points"])
def test_without_sparse_points_it_goes_on_and_says_so(capture, state):
    ply = capture / "sparse_pc.ply"
    if state == "not named":
        edit(capture, lambda meta: meta.pop("ply_file_path"))
    elif state == "missing":
        ply.unlink()
    elif state == "zero bytes":
        ply.write_bytes(b"")
    else:
        header = "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\n"
        ply.write_text(f"{header}end_header\n")
    files = read_capture(capture)
    assert files.points is None
    assert len(files.notes) == 1
    assert "going on without them" in files.notes[0]
    assert load_capture(capture, long_side=96)[0].sparse is None


def test_sparse_points_that_are_not_finite_are_left_out(capture):
    cloud = read_ply(capture / "sparse_pc.ply")
    lines = [" ".join(map(str, point)) for point in cloud.xyz.tolist()]
    lines[3], lines[5] = "nan 0 0", "0 inf 0"
    header = f"ply\nformat ascii 1.0\nelement vertex {len(lines)}\n" + "".join(f"property float {c}\n" for c in "xyz")
    (capture / "sparse_pc.ply").write_text(f"{header}end_header\n" + "\n".join(lines) + "\n")
    note, _ = only_left_out(capture)
    assert f"2 of {len(lines)} sparse points" in note
    points = read_capture(capture).points
    assert len(points) == len(lines) - 2 and bool(torch.isfinite(points.xyz).all())


def test_sparse_points_that_are_no_ply_are_refused(capture):
    (capture / "sparse_pc.ply").write_text("solid cube\n")
    with pytest.raises(InputError, match="PLY"):
        read_capture(capture)


def wrong_shape(depth):
    Image.fromarray(np.ones((64, 64), np.uint16)).save(depth)


def in_colour(depth):
    Image.fromarray(np.ones((64, 96, 3), np.uint8)).save(depth)


def truncated(depth):
    depth.write_bytes(depth.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(wrong_shape, "have the shape of its photo"), (in_colour, "one channel"), (truncated, "be a whole image")],
)
def test_depth_that_cannot_be_used_is_left_out_alone(capture, spoil, message):
    spoil(capture / "depth" / "train_00.png")
    files = read_capture(capture)
    assert "the depth of images/train_00.png: " in files.notes[0] and message in files.notes[0]
    assert [frame.depth is None for frame in files.frames] == [
        frame.name == "images/train_00.png" for frame in files.frames
    ]


@pytest.mark.parametrize("value", ["far", 1j, True])
def test_depth_that_is_no_number_is_left_out(capture, value):
    np.save(capture / "depth.npy", np.full((64, 96), value))
    edit(capture, lambda meta: meta["frames"][0].update(depth_file_path="depth.npy"))
    note, names = only_left_out(capture)
    assert "floating-point numbers" in note and len(names) == 6


def test_depth_of_a_thin_photo_may_be_rounded(capture):
    edit(capture, lambda meta: meta["frames"][0].update(w=96, h=9, cy=4))
    Image.new("RGB", (96, 9)).save(first(capture))
    Image.fromarray(np.ones((4, 48), np.uint16)).save(capture / "depth" / "train_00.png")
    assert len(read_capture(capture).frames) == 6
