"""COLMAP models as captures, against the same capture in Nerfstudio's form."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.clips import CaptureScene
from fvgen.data.read_capture import read_capture
from fvgen.geometry.provider import GEOMETRY_PROVIDERS


@pytest.fixture
def colmap_capture(capture):
    """The tiny room with COLMAP's text files instead of transforms.json; the camera is OPENCV with some distortion."""
    frames = read_capture(capture).frames
    model = capture / "sparse" / "0"
    model.mkdir(parents=True)
    K, (width, height) = frames[0].K, frames[0].size
    lens = f"{K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]} 0.01 0.002 0.0003 0.0004"
    (model / "cameras.txt").write_text(f"1 OPENCV {width} {height} {lens}\n")
    lines = []
    for i, frame in enumerate(frames):
        w2c = np.linalg.inv(frame.c2w)
        w, x, y, z = quaternion(w2c[:3, :3])
        tx, ty, tz = w2c[:3, 3]
        lines += [f"{i + 1} {w} {x} {y} {z} {tx} {ty} {tz} 1 {frame.name.removeprefix('images/')}", ""]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("")
    (capture / "transforms.json").rename(capture / "other.json")
    return capture


def quaternion(rotation):
    """(w, x, y, z) of a rotation, from the eigenvector of Bar-Itzhack's matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array([
        [a - e - i, 0, 0, 0], [b + d, e - a - i, 0, 0], [c + g, f + h, i - a - e, 0], [h - f, c - g, d - b, a + e + i],
    ])  # fmt: skip
    values, vectors = np.linalg.eigh(matrix / 3)
    x, y, z, w = vectors[:, values.argmax()]
    return w, x, y, z


def test_the_same_cameras_as_in_nerfstudios_form(colmap_capture):
    expected = read_capture(colmap_capture / "other.json").frames
    found = read_capture(colmap_capture).frames
    assert [frame.name for frame in found] == [frame.name for frame in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.c2w, b.c2w, atol=1e-6)
        np.testing.assert_allclose(a.K, b.K, atol=1e-6)
        assert a.photo == b.photo and a.size == b.size
        assert a.distortion == pytest.approx((0.01, 0.002, 0.0003, 0.0004, 0.0))


def test_clips_of_a_colmap_capture(colmap_capture):
    scene = CaptureScene(colmap_capture, GEOMETRY_PROVIDERS["plane-sweep"](speckle=10), 1, 4, 48, 64)
    clip, _ = next(scene.clips())
    assert clip.frames.shape == (4, 3, 48, 64)


def test_models_that_cannot_be_used(colmap_capture):
    model = colmap_capture / "sparse" / "0"
    cameras = (model / "cameras.txt").read_text()
    (model / "images.txt").write_text("")
    with pytest.raises(InputError, match="give a photo a pose, got none"):
        read_capture(colmap_capture)
    (model / "images.txt").write_text("1 1 0 0 0 0 0 0 7 train_00.png\n\n")
    with pytest.raises(InputError, match=r"the camera of images/train_00\.png must be in the model, got 7"):
        read_capture(colmap_capture)
    for text in ("1 1 0 0 0 0 0 0 1\n\n", "words\n\n", "1 1 0 0 0 0 0 0 one a.png\n\n"):
        (model / "images.txt").write_text(text)
        with pytest.raises(InputError, match=r"images\.txt must be a whole COLMAP file"):
            read_capture(colmap_capture)
    (model / "images.txt").write_text("1 0 0 0 0 0 0 0 1 train_00.png\n\n")
    for text in ("1 PINHOLE 96 64 60 60 48\n", "1 PINHOLE 96 64 60 60 48 x\n", "1 PINHOLE\n"):
        (model / "cameras.txt").write_text(text)
        with pytest.raises(InputError, match=r"cameras\.txt must be a whole COLMAP file"):
            read_capture(colmap_capture)
    (model / "cameras.txt").write_text(cameras)
    (model / "points3D.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"points3D\.txt must be a whole COLMAP file"):
        read_capture(colmap_capture)


def as_binary(model):
    """The text files of a model as binary ones, in place."""
    cameras = [line.split() for line in (model / "cameras.txt").read_text().splitlines()]
    data = struct.pack("<Q", len(cameras))
    for number, name, width, height, *params in cameras:
        data += struct.pack("<iiQQ", int(number), {"PINHOLE": 1, "OPENCV": 4}[name], int(width), int(height))
        data += struct.pack(f"<{len(params)}d", *map(float, params))
    (model / "cameras.bin").write_bytes(data)
    images = [line.split() for line in (model / "images.txt").read_text().splitlines()[::2]]
    data = struct.pack("<Q", len(images))
    for points, (number, *pose, camera, name) in enumerate(images):
        data += struct.pack("<I7dI", int(number), *map(float, pose), int(camera)) + name.encode() + b"\0"
        data += struct.pack("<Q", points) + points * struct.pack("<ddq", 1.0, 2.0, -1)
    (model / "images.bin").write_bytes(data)
    for name in ("cameras", "images", "points3D"):
        (model / f"{name}.txt").unlink()


def test_binary_models(colmap_capture):
    expected = read_capture(colmap_capture).frames
    model = colmap_capture / "sparse" / "0"
    as_binary(model)
    for a, b in zip(read_capture(colmap_capture).frames, expected, strict=True):
        assert (a.name, a.photo, a.size, a.distortion) == (b.name, b.photo, b.size, b.distortion)
        np.testing.assert_allclose(a.c2w, b.c2w)
        np.testing.assert_allclose(a.K, b.K)
    whole = (model / "images.bin").read_bytes()
    for damaged in (whole[:-5], whole[:60], b"", b"\xff" * 8 + whole[8:], whole[:-128] + b"\xff" * 8):
        (model / "images.bin").write_bytes(damaged)
        with pytest.raises(InputError, match=r"images\.bin must be a whole COLMAP file"):
            read_capture(colmap_capture)


def test_copies_of_the_photos(colmap_capture):
    """images_2 beside sparse, as the data sets of Gaussian splatting come, without images."""
    before = read_capture(colmap_capture).frames
    (colmap_capture / "images").rename(colmap_capture / "images_2")
    for path in (colmap_capture / "images_2").iterdir():
        with Image.open(path) as image:
            small = image.resize((48, 32), Image.Resampling.BOX)
        small.save(path)
    for a, b in zip(read_capture(colmap_capture).frames, before, strict=True):
        assert a.size == (48, 32) and a.photo.is_file() and a.name == b.name
        np.testing.assert_allclose(a.K[:2], b.K[:2] / 2)
