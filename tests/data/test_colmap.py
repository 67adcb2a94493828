"""COLMAP models as captures, written by COLMAP itself, against the same capture in Nerfstudio's form."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from colmap_models import same_cameras, write_colmap

from fvgen.checks import InputError
from fvgen.data.clips import CaptureScene
from fvgen.data.read_capture import read_capture
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.types import PointCloud

BARROW = (("OPENCV", (0.01, 0.002, 0.0003, 0.0004)),)


UTM, ECEF = (412_345.0, 5_654_321.0, 123.0), (4_012_345.0, 654_321.0, 4_901_234.0)


@pytest.mark.parametrize("text", [False, True])
def test_the_same_cameras_and_points_as_in_nerfstudios_form(photos, frames, points, text):
    write_colmap(photos / "sparse/0", frames, points, text=text, lenses=BARROW, observed=True)
    files = read_capture(photos)
    same_cameras(files.frames, frames)
    assert {frame.distortion for frame in files.frames} == {(0.01, 0.002, 0.0003, 0.0004, 0.0)}
    order = (files.points.xyz[:, None] - points.xyz[None]).norm(dim=2).argmin(dim=1)
    torch.testing.assert_close(files.points.xyz, points.xyz[order])
    torch.testing.assert_close(files.points.rgb, points.rgb[order], atol=0.51 / 255, rtol=0)
    assert files.notes == ()


LAYOUTS = {
    "as COLMAP has it": ("sparse/0", "images", ""),
    "without a number": ("sparse", "images", ""),
    "sparse/1 alone": ("sparse/1", "images", ""),
    "ns-process-data": ("colmap/sparse/0", "images", ""),
    "flat": ("", "", ""),
    "model beside images": ("", "images", ""),
    "dense": ("dense/sparse", "dense/images", ""),
    "dense/0": ("dense/0/sparse", "dense/0/images", ""),
    "convert.py before it has copied": ("distorted/sparse/0", "input", ""),
    "photos in another folder": ("sparse/0", "rgb", ""),
    "another letter case": ("sparse/0", "Images", ""),
    "photos in the capture": ("sparse/0", "", ""),
    "given the model": ("sparse/0", "images", "sparse/0"),
    "given the model in dense": ("dense/0/sparse", "dense/0/images", "dense/0/sparse"),
    "given a file of the model": ("sparse/0", "images", "sparse/0/images.bin"),
    "given sparse": ("sparse", "images", "sparse"),
    "given sparse of a numbered model": ("sparse/0", "images", "sparse"),
    "given ns-process-data's colmap": ("colmap/sparse/0", "images", "colmap"),
    "given dense of a numbered reconstruction": ("dense/0/sparse", "dense/0/images", "dense"),
    "given distorted": ("distorted/sparse/0", "input", "distorted"),
    "dense in colmap": ("colmap/dense/0/sparse", "colmap/dense/0/images", ""),
    "instant-ngp": ("colmap_text", "images", ""),
    "a model in another folder": ("hloc/sfm", "images", ""),
    "given such a folder": ("model", "images", "model"),
    "other letter cases": ("Sparse/0", "IMAGES", ""),
    "in a folder of its own": ("output/sparse/0", "output/images", ""),
}
"""Place of the model, of the photos, and what the user gives, all within the capture."""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_models_and_photos_are_found_where_tools_leave_them(tiny_room, tmp_path, frames, layout):
    model, photos, given = LAYOUTS[layout]
    capture = tmp_path / "scan"
    shutil.copytree(tiny_room / "images", capture / photos, dirs_exist_ok=True)
    write_colmap(capture / model, frames)
    same_cameras(read_capture(capture / given).frames, frames)


def test_undistorted_photos_are_not_taken_for_those_of_the_distorted_model(photos, frames):
    """What the undistorter leaves: photos of the same names for a model of its own."""
    write_colmap(photos / "sparse/0", frames, lenses=BARROW)
    write_colmap(photos / "dense/0/sparse", frames)
    (photos / "images").rename(photos / "dense/0/images")
    files = read_capture(photos)
    assert not any(any(frame.distortion) for frame in files.frames)
    assert files.frames[0].photo.parent == photos / "dense/0/images"


def test_the_largest_of_several_models_is_read_with_a_note(photos, frames):
    write_colmap(photos / "sparse/0", frames[:2])
    write_colmap(photos / "sparse/1", frames)
    files = read_capture(photos)
    assert len(files.frames) == 6
    assert any("sparse/1 with 6 photos is read, the largest; not 0 with 2" in note for note in files.notes)


def test_binary_files_are_read_where_text_is_there_too_with_a_note(photos, frames):
    model = write_colmap(photos / "sparse/0", frames)
    write_colmap(model, [replace(frame, c2w=frame.c2w @ np.diag([-1.0, -1, 1, 1])) for frame in frames], text=True)
    files = read_capture(photos)
    same_cameras(files.frames, frames)
    assert any(".bin is read, as COLMAP does" in note for note in files.notes)


def no_empty_lines(text):
    return "\n".join(line for line in text.split("\n") if line.strip()) + "\n"


TEXT_FORMS = {
    "no empty lines": no_empty_lines,
    "doubled empty lines": lambda text: text.replace("\n\n", "\n\n\n"),
    "no last line": lambda text: text.rstrip("\n"),
    "no comments": lambda text: "".join(line for line in text.splitlines(True) if not line.startswith("#")),
    "Windows": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "tabs": lambda text: text.replace(" ", "\t"),
    "small letters": lambda text: text.replace("PINHOLE", "pinhole"),
    "numbers of points with a fraction": lambda text: re.sub(r"(\.\d+ -?\d+)(?= \d+\.| ?\n)", r"\1.0", text),
}


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("form", TEXT_FORMS)
def test_every_photo_of_a_text_file_is_read(photos, frames, points, form, observed):
    model = write_colmap(photos / "sparse/0", frames, points, text=True, observed=observed)
    for path in (model / "images.txt", model / "cameras.txt", model / "points3D.txt"):
        path.write_bytes(TEXT_FORMS[form](path.read_text()).encode())
    files = read_capture(photos)
    same_cameras(files.frames, frames)
    assert len(files.points) == len(points)


@pytest.mark.parametrize("origin", [UTM, ECEF])
def test_map_coordinates_keep_their_digits(photos, frames, points, origin):
    moved = [replace(frame, c2w=_moved(frame.c2w, origin)) for frame in frames]
    cloud = PointCloud(points.xyz + torch.tensor(origin, dtype=torch.float64), points.rgb, points.confidence)
    write_colmap(photos / "sparse/0", moved, cloud)
    files = read_capture(photos)
    same_cameras(files.frames, moved, tolerance=1e-7)  # -R^T (-R c): the last digits of 5e6
    assert files.points.xyz.dtype == torch.float64 and files.notes == ()


def test_positions_that_rounded_rotations_have_moved_are_computed_anew(photos, frames, points):
    moved = [replace(frame, c2w=_moved(frame.c2w, UTM)) for frame in frames]
    cloud = PointCloud(points.xyz + torch.tensor(UTM, dtype=torch.float64), points.rgb, points.confidence)
    model = write_colmap(photos / "sparse/0", moved, cloud, text=True, observed=True)
    lines = (model / "images.txt").read_text().split("\n")
    for i, line in enumerate(lines):
        if line.endswith(".png"):
            number, *quaternion = line.split()[:5]
            rounded = [f"{float(value):.6f}" for value in quaternion]
            lines[i] = " ".join([number, *rounded, *line.split()[5:]])
    (model / "images.txt").write_text("\n".join(lines))
    files = read_capture(photos)
    for found, true in zip(files.frames, moved, strict=True):
        # a rotation off by 5e-7 leaves that share of the distances in the scene
        assert np.abs(found.c2w[:3, 3] - true.c2w[:3, 3]).max() < 1e-3
    assert any(note.startswith("The positions of 6 photos contradict what they show by up to ") for note in files.notes)


def _moved(c2w, origin):
    c2w = c2w.copy()
    c2w[:3, 3] += origin
    return c2w


@pytest.mark.parametrize("state", ["no file", "empty file", "no points", "header alone"])
@pytest.mark.parametrize("text", [False, True])
def test_without_points_it_goes_on_and_says_so(photos, frames, text, state):
    model = write_colmap(photos / "sparse/0", frames, text=text)
    path = model / f"points3D.{'txt' if text else 'bin'}"
    if state == "no file":
        path.unlink()
    elif state == "empty file":
        path.write_bytes(b"")
    elif state == "header alone" and text:
        path.write_text("# 3D point list\n# Number of points: 0\n")
    files = read_capture(photos)
    assert files.points is None and len(files.frames) == 6
    assert len(files.notes) == 1 and "no sparse points" in files.notes[0]


def test_clips_of_a_colmap_capture(photos, frames):
    write_colmap(photos / "sparse/0", frames, lenses=BARROW)
    scene = CaptureScene(photos, GEOMETRY_PROVIDERS["plane-sweep"](speckle=10), 1, 4, 48, 64)
    clip, _ = next(scene.clips())
    assert clip.frames.shape == (4, 3, 48, 64)


def test_models_that_cannot_be_used(photos, frames):
    model = write_colmap(photos / "sparse" / "0", frames, text=True)
    cameras = (model / "cameras.txt").read_text()
    (model / "images.txt").write_text("")
    with pytest.raises(InputError, match="give a photo a pose, got none"):
        read_capture(photos)
    (model / "images.txt").write_text("1 1 0 0 0 0 0 0 7 train_00.png\n\n")
    with pytest.raises(InputError, match=r"the camera of images/train_00\.png must be in the model, got 7"):
        read_capture(photos)
    for text in ("1 1 0 0 0 0 0 0 1\n\n", "words\n\n", "1 1 0 0 0 0 0 0 one a.png\n\n"):
        (model / "images.txt").write_text(text)
        with pytest.raises(InputError, match=r"images\.txt must be a whole COLMAP file"):
            read_capture(photos)
    (model / "images.txt").write_text("1 1 0 0 0 0 0 0 1 train_00.png\n\n")
    for text in ("1 PINHOLE 96 64 60 60 48\n", "1 PINHOLE 96 64 60 60 48 x\n", "1 PINHOLE\n"):
        (model / "cameras.txt").write_text(text)
        with pytest.raises(InputError, match=r"cameras\.txt must be a whole COLMAP file"):
            read_capture(photos)
    (model / "cameras.txt").write_text(cameras)
    (model / "points3D.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"points3D\.txt must be a whole COLMAP file"):
        read_capture(photos)


@pytest.mark.parametrize("pose", ["0 0 0 0 0 0 0", "nan 0 0 0 0 0 0", "1 0 0 0 inf 0 0"])
def test_a_pose_that_is_none_costs_its_photo(photos, frames, points, pose):
    model = write_colmap(photos / "sparse" / "0", frames, points, text=True)
    lines = (model / "images.txt").read_text().split("\n")
    first = next(i for i, line in enumerate(lines) if line.endswith(".png"))
    number, *_, camera, name = lines[first].split()
    lines[first] = f"{number} {pose} {camera} {name}"
    (model / "images.txt").write_text("\n".join(lines))
    files = read_capture(photos)
    assert len(files.frames) == 5
    assert files.notes == (
        f"Left out: images/{name}: the pose of images/{name} must be finite, got NaN or infinity. "
        "Estimate this camera's pose again or leave the photo out.",
    )


@pytest.mark.parametrize("kind", ["cameras", "images", "points3D"])
def test_binary_files_that_are_cut_off_or_damaged_are_refused(photos, frames, points, kind):
    path = write_colmap(photos / "sparse" / "0", frames, points, observed=True) / f"{kind}.bin"
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole[:60], b"\xff" * 8 + whole[8:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"{kind}\.bin must be a whole COLMAP file"):
            read_capture(photos)


def test_a_damaged_model_beside_a_good_one_is_left_out(photos, frames):
    write_colmap(photos / "sparse/0", frames)
    damaged = write_colmap(photos / "sparse/1", frames)
    (damaged / "images.bin").write_bytes(b"")
    files = read_capture(photos)
    same_cameras(files.frames, frames)
    assert (
        files.notes[0].startswith(f"Left out: the model {damaged}: ") and "images.bin must be a whole" in files.notes[0]
    )
