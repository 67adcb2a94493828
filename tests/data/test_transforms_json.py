"""transforms.json: what is refused, and what costs one photo alone."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from transforms_edits import edit, first, only_left_out, pose, set_pose

from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.points import read_ply

REFUSED = {
    "one photo": (lambda m: m.update(train_filenames=m["train_filenames"][:1]), "at least 2 photos"),
    "no photo": (lambda m: m.update(train_filenames=[]), "at least 2 photos"),
    "no frames": (lambda m: m.update(frames=[]), "at least one frame"),
    "frames of another type": (lambda m: m.update(frames={"a": 1}), "be a list"),
    "long frames of another type": (lambda m: m.update(frames={"a": 900 * "b"}), "b (shortened). Run"),
    "zero focal length": (lambda m: m.update(fl_x=0), "must be positive"),
    "negative focal length": (lambda m: m.update(fl_y=-300), "must be positive"),
    "focal length of no lens": (lambda m: m.update(fl_x=0.001), "be 0.1 to 100 times the photo's longer side of 96"),
    "principal point far outside": (lambda m: m.update(cx=5000), "lie within the photo or a photo's size of it"),
    "NaN focal length": (lambda m: m.update(fl_x=math.nan), "finite"),
    "focal length null": (lambda m: m.update(fl_x=None), "finite"),
    "focal length of words": (lambda m: m.update(fl_x="long"), "number"),
    "no focal length": (lambda m: (m.pop("fl_x"), m.pop("fl_y")), "fl_x or camera_angle_x"),
    "angle of view of 180 degrees": (lambda m: (m.pop("fl_x"), m.update(camera_angle_x=math.pi)), "positive"),
    "photo of another size": (lambda m: m.update(w=97), "be 97x64 pixels as its intrinsics say, got 96x64"),
    "size of zero": (lambda m: m.update(w=0), "positive whole numbers"),
    "size of words": (lambda m: m.update(h="tall"), "numbers"),
    "height missing": (lambda m: m.pop("h"), "positive whole numbers"),
    "fisheye": (lambda m: m.update(camera_model="OPENCV_FISHEYE"), "colmap image_undistorter"),
    "fisheye flag": (lambda m: m.update(is_fisheye=True), "colmap image_undistorter"),
    "panorama": (lambda m: m.update(camera_model="EQUIRECTANGULAR"), "--camera-type equirectangular"),
    "unknown camera model": (lambda m: m.update(camera_model="PINHOLE2"), "camera_model"),
    "k4": (lambda m: m.update(camera_model="OPENCV", k4=0.1), "Brown3"),
    "k6": (lambda m: m.update(camera_model="OPENCV", k6=0.1), "Brown3"),
    "NaN distortion": (lambda m: m.update(camera_model="OPENCV", k1=math.nan), "the distortion of images/t"),
    "photo outside": (lambda m: m["frames"][0].update(file_path="../photo.png"), "stay inside the capture"),
    "sparse points outside": (lambda m: m.update(ply_file_path="../../x.ply"), "stay inside the capture"),
    "mask outside": (lambda m: m["frames"][0].update(mask_path="../m.png"), "stay inside the capture"),
    "split outside": (lambda m: m["train_filenames"].append("../x.png"), "stay inside the capture"),
    "split of another type": (lambda m: m.update(train_filenames="images"), "list of file paths"),
    "depth unit of zero": (lambda m: m.update(depth_unit_scale_factor=0), "depth_unit_scale_factor"),
}  # fmt: skip
"""What no photo, or too few, can be used with."""


LEFT_OUT = {
    "NaN pose": (lambda m: set_pose(m, pose(m) * np.nan), "pose of images/train_00.png must be finite"),
    "infinite pose": (lambda m: set_pose(m, np.where(pose(m) == 1, np.inf, pose(m))), "must be finite"),
    "NaN pose of a held-out photo": (lambda m: set_pose(m, pose(m, 5) * np.nan, 5), "test_05.png must be finite"),
    "mirrored pose": (lambda m: set_pose(m, pose(m) @ np.diag([-1, 1, 1, 1])), "not be mirrored"),
    "scaled pose": (lambda m: set_pose(m, pose(m) @ np.diag([2, 2, 2, 1])), "without scale or shear"),
    "sheared pose": (lambda m: set_pose(m, pose(m) @ (np.eye(4) + 0.1 * np.eye(4, k=1))), "must"),
    "pose of 2x4": (lambda m: set_pose(m, pose(m)[:2]), "4x4 numbers"),
    "pose of words": (lambda m: m["frames"][0].update(transform_matrix="left"), "4x4 numbers"),
    "no pose": (lambda m: m["frames"][0].pop("transform_matrix"), "4x4 numbers"),
    "two identical poses": (lambda m: set_pose(m, pose(m, 1)), "differ from others, got that of images/train_00"),
    "a frame without file": (lambda m: m["frames"][0].pop("file_path"), "have a file_path"),
    "a frame that is a number": (lambda m: m["frames"].append(3), "have a file_path"),
    "a frame twice": (lambda m: m["frames"].append(m["frames"][0]), "its photo must have one frame"),
    "fisheye of one frame": (lambda m: m["frames"][2].update(camera_model="OPENCV_FISHEYE"), "colmap image_und"),
    "photo by absolute path": (lambda m: m["frames"][0].update(file_path="/etc/passwd"), "an image that Pillow reads"),
    "photo name no file can have": (lambda m: m["frames"][0].update(file_path="a\0b.png"), "be an existing file"),
    "photo name of no text": (lambda m: m["frames"][0].update(file_path=7), "have a file_path"),
    "depth outside": (lambda m: m["frames"][0].update(depth_file_path="/nowhere/d.png"), "be an existing file"),
    "split of unknown files": (lambda m: m["test_filenames"].append("images/x.png"), "be that of a photo with a pose"),
    "photo missing": (lambda m: m["frames"][0].update(file_path="images/gone.png"), "images/gone.png"),
    "depth missing": (lambda m: m["frames"][0].update(depth_file_path="depth/gone.png"), "be an existing file"),
}  # fmt: skip
"""What costs one photo, map or name of a list."""


@pytest.mark.parametrize("name", REFUSED)
def test_bad_descriptions_are_refused(capture, name):
    change, message = REFUSED[name]
    edit(capture, change)
    with pytest.raises(InputError, match=re.escape(message)):
        read_capture(capture)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_bad_in_one_frame_is_left_out_and_named(capture, name):
    change, message = LEFT_OUT[name]
    edit(capture, change)
    files = read_capture(capture)
    assert sum(note.startswith("Left out: ") for note in files.notes) == 1
    assert message in files.notes[0]
    of_frame = not any(word in name for word in ("depth", "split", "twice", "a number"))
    assert len(files.frames) == (5 if of_frame else 6)


def test_a_good_capture_is_read(capture):
    files = read_capture(capture)
    assert [frame.name for frame in files.frames] == sorted(frame.name for frame in files.frames)
    assert len(files.split("train")) == 4
    assert files.split("test") == files.split("val") != ()
    assert files.notes == ()
    assert torch.equal(files.points.xyz, read_ply(capture / "sparse_pc.ply", torch.float64).xyz)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="the path of the capture must exist"):
        read_capture(tmp_path / "nowhere")


def test_a_folder_without_description_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(InputError, match=r"transforms\.json.*fvgen poses PHOTOS CAPTURE"):
        read_capture(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, '{"frames": [}', b"\xff\xfe\x00"])
def test_a_broken_description_is_refused(capture, text):
    (capture / "transforms.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"transforms\.json must"):
        read_capture(capture)


def test_a_truncated_photo_is_left_out(capture):
    photo = first(capture)
    photo.write_bytes(photo.read_bytes()[:-2000])
    note, names = only_left_out(capture)
    assert f"{photo.name} must be a whole image" in note and len(names) == 5


def test_a_photo_that_is_no_image_is_left_out(capture):
    first(capture).write_bytes(b"these are not pixels")
    note, names = only_left_out(capture)
    assert "an image that Pillow reads" in note and len(names) == 5


def test_one_note_names_all_that_is_left_out(capture):
    edit(capture, lambda meta: set_pose(meta, pose(meta, 4) * np.nan, 4))
    (capture / "images" / "train_01.png").unlink()
    (capture / "images" / "train_02.png").unlink()
    note, names = only_left_out(capture)
    gone = ("images/test_04.png", "images/train_01.png", "images/train_02.png")
    assert all(name in note for name in gone) and not set(gone) & set(names)


def test_fewer_than_two_photos_that_can_be_used_are_refused_with_every_reason(capture):
    for name in ("train_00.png", "train_01.png"):
        (capture / "images" / name).unlink()
    edit(capture, lambda meta: set_pose(meta, pose(meta, 2) @ np.diag([-1, 1, 1, 1]), 2))
    with pytest.raises(InputError) as refusal:
        read_capture(capture)
    text = str(refusal.value)
    assert text.startswith("capture must have at least 2 photos to train on, got 1.")
    assert "images/train_00.png, images/train_01.png: photo images/train_00.png must be an existing file" in text
    assert "images/train_02.png: the pose of images/train_02.png must not be mirrored" in text
    assert "Flip one axis back" in text


def test_tiny_photos_are_left_out(capture):
    edit(capture, lambda meta: meta["frames"][0].update(w=1, h=1, cx=0.5, cy=0.5))
    Image.new("RGB", (1, 1)).save(first(capture))
    note, names = only_left_out(capture)
    assert "at least 8 pixels on each side, got 1x1" in note and len(names) == 5


def test_a_wholly_transparent_photo_is_left_out(capture):
    Image.new("RGBA", (96, 64), (200, 10, 10, 0)).save(first(capture))
    note, names = only_left_out(capture)
    assert "have visible pixels" in note and len(names) == 5


def test_intrinsics_of_a_frame_override_those_of_the_capture(capture):
    edit(capture, lambda meta: meta["frames"][0].update(fl_x=77, fl_y=78, cx=40, cy=30))
    assert np.array_equal(read_capture(capture).frames[2].K, [[77, 0, 40], [0, 78, 30], [0, 0, 1]])  # test_* come first


@pytest.mark.parametrize("model", ["FULL_OPENCV", "opencv"])
def test_camera_models_without_what_opencv_does_not_have_are_read(capture, model):
    edit(capture, lambda meta: meta.update(camera_model=model, k1=0.1, k3=0.01, k4=0, k5=0, k6=0))
    assert read_capture(capture).frames[0].distortion == (0.1, 0, 0, 0, 0.01)


def test_an_angle_of_view_gives_the_focal_length(capture):
    def change(meta):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            meta.pop(key)
        meta["camera_angle_x"] = math.pi / 2

    edit(capture, change)
    assert np.allclose(read_capture(capture).frames[0].K, [[48, 0, 48], [0, 48, 32], [0, 0, 1]])


def test_real_captures_are_read(real_captures):
    for folder in real_captures:
        files = read_capture(folder)
        assert len(files.split("train")) >= 3
        assert files.notes == ()


JUNK = [None, "", "x", -1, 0, 1.5, 10**400, math.nan, math.inf, [], [[]], [None], {}, {"a": 1}, True, "\0", "." * 5000]


@pytest.mark.parametrize("where", ["capture", "frame"])
def test_no_junk_in_a_description_leads_to_another_error(capture, where):
    original = json.loads((capture / "transforms.json").read_text())
    extra = dict.fromkeys(("camera_model", "is_fisheye", "camera_angle_x", "k1", "k4", "p2", "distortion_params"))
    keys = [
        *original,
        *extra,
        "depth_unit_scale_factor",
        "transform_matrix",
        "file_path",
        "depth_file_path",
        "mask_path",
    ]
    for key in keys:
        for junk in JUNK:
            meta = json.loads(json.dumps(original))
            (meta if where == "capture" else meta["frames"][1])[key] = junk
            (capture / "transforms.json").write_text(json.dumps(meta))
            try:
                load_capture(capture, long_side=16)
            except InputError:
                continue
            except Exception as error:
                pytest.fail(f"{key} = {str(junk)[:20]} of the {where} raised {error!r}")
