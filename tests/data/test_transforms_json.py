import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.capture import check_frames
from fvgen.data.transforms_json import read_transforms
from fvgen.data.working_size import load_capture


def edit(capture, change):
    """Apply ``change(meta)`` to the capture's description."""
    file = capture / "transforms.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def first(capture):
    """The photo file of the first frame."""
    return capture / json.loads((capture / "transforms.json").read_text())["frames"][0]["file_path"]


def use(capture):
    """Read the capture's description and check its training photos, as every command does before work."""
    files = read_transforms(capture)
    check_frames([files.frames[i] for i in files.split("train")])
    return files


def set_pose(meta, matrix, frame=0):
    meta["frames"][frame]["transform_matrix"] = np.asarray(matrix).tolist()


def pose(meta, frame=0):
    return np.array(meta["frames"][frame]["transform_matrix"])


BAD_DESCRIPTIONS = {
    "NaN pose": (lambda m: set_pose(m, pose(m) * np.nan), "pose of images/train_00.png must be finite"),
    "infinite pose": (lambda m: set_pose(m, np.where(pose(m) == 1, np.inf, pose(m))), "must be finite"),
    "NaN pose of a held-out photo": (lambda m: set_pose(m, pose(m, 5) * np.nan, 5), "test_05.png must be finite"),
    "mirrored pose": (lambda m: set_pose(m, pose(m) @ np.diag([-1, 1, 1, 1])), "not be mirrored"),
    "scaled pose": (lambda m: set_pose(m, pose(m) @ np.diag([2, 2, 2, 1])), "without scale or shear"),
    "sheared pose": (lambda m: set_pose(m, pose(m) @ (np.eye(4) + 0.1 * np.eye(4, k=1))), "must"),
    "pose of 2x4": (lambda m: set_pose(m, pose(m)[:2]), "4x4 numbers"),
    "pose of words": (lambda m: m["frames"][0].update(transform_matrix="left"), "4x4 numbers"),
    "no pose": (lambda m: m["frames"][0].pop("transform_matrix"), "4x4 numbers"),
    "two identical poses": (lambda m: set_pose(m, pose(m, 1)), "the same pose for images/train_00.png and"),
    "one photo": (lambda m: m.update(train_filenames=m["train_filenames"][:1]), "at least 2 photos"),
    "no photo": (lambda m: m.update(train_filenames=[]), "at least 2 photos"),
    "no frames": (lambda m: m.update(frames=[]), "at least one frame"),
    "frames of another type": (lambda m: m.update(frames={"a": 1}), "be a list"),
    "a frame without file": (lambda m: m["frames"][0].pop("file_path"), "have a file_path"),
    "a frame that is a number": (lambda m: m["frames"].append(3), "have a file_path"),
    "a frame twice": (lambda m: m["frames"].append(m["frames"][0]), "each photo once"),
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
    "fisheye of one frame": (lambda m: m["frames"][2].update(camera_model="OPENCV_FISHEYE"), "colmap image_und"),
    "fisheye flag": (lambda m: m.update(is_fisheye=True), "colmap image_undistorter"),
    "panorama": (lambda m: m.update(camera_model="EQUIRECTANGULAR"), "--camera-type equirectangular"),
    "unknown camera model": (lambda m: m.update(camera_model="PINHOLE2"), "camera_model"),
    "k4": (lambda m: m.update(camera_model="OPENCV", k4=0.1), "colmap image_undistorter"),
    "NaN distortion": (lambda m: m.update(camera_model="OPENCV", k1=math.nan), "distortion of images/test_04.png must"),
    "photo outside": (lambda m: m["frames"][0].update(file_path="../photo.png"), "stay inside the capture"),
    "photo by absolute path": (lambda m: m["frames"][0].update(file_path="/etc/passwd"), "stay inside the capture"),
    "photo name no file can have": (lambda m: m["frames"][0].update(file_path="a\0b.png"), "stay inside the capture"),
    "photo name of no text": (lambda m: m["frames"][0].update(file_path=7), "path in the capture"),
    "sparse points outside": (lambda m: m.update(ply_file_path="../../x.ply"), "stay inside the capture"),
    "depth outside": (lambda m: m["frames"][0].update(depth_file_path="/tmp/d.png"), "stay inside the capture"),
    "mask outside": (lambda m: m["frames"][0].update(mask_path="../m.png"), "stay inside the capture"),
    "split of unknown files": (lambda m: m["test_filenames"].append("images/x.png"), "name frames of the capture"),
    "split outside": (lambda m: m["train_filenames"].append("../x.png"), "stay inside the capture"),
    "split of another type": (lambda m: m.update(train_filenames="images"), "list of file paths"),
    "photo missing": (lambda m: m["frames"][0].update(file_path="images/gone.png"), "images/gone.png"),
    "depth missing": (lambda m: m["frames"][0].update(depth_file_path="depth/gone.png"), "name an existing file"),
    "depth unit of zero": (lambda m: m.update(depth_unit_scale_factor=0), "depth_unit_scale_factor"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
def test_bad_descriptions_are_refused(capture, name):
    change, message = BAD_DESCRIPTIONS[name]
    edit(capture, change)
    with pytest.raises(InputError, match=re.escape(message)):
        use(capture)


def test_a_good_capture_is_read(capture):
    files = use(capture)
    assert [frame.name for frame in files.frames] == sorted(frame.name for frame in files.frames)
    assert len(files.split("train")) == 4
    assert files.split("test") == files.split("val") != ()
    assert files.warnings == ()
    assert files.sparse_ply == capture / "sparse_pc.ply"


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="existing folder"):
        read_transforms(tmp_path / "nowhere")


def test_a_folder_without_description_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(InputError, match=r"transforms\.json.*ns-process-data images"):
        read_transforms(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "[" * 100_000, '{"frames": [}', b"\xff\xfe\x00"])
def test_a_broken_description_is_refused(capture, text):
    (capture / "transforms.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"transforms\.json must"):
        read_transforms(capture)


def test_a_truncated_photo_is_refused_by_name(capture):
    photo = first(capture)
    photo.write_bytes(photo.read_bytes()[:-2000])
    with pytest.raises(InputError, match=f"{photo.name} must be a whole image"):
        use(capture)


def test_a_photo_that_is_no_image_is_refused(capture):
    first(capture).write_bytes(b"these are not pixels")
    with pytest.raises(InputError, match="an image that Pillow reads"):
        use(capture)


def test_a_link_out_of_the_capture_is_refused(capture, tmp_path):
    photo = first(capture)
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match=r"stay inside the capture, got .*, which leads to .*elsewhere.png"):
        read_transforms(capture)


def test_a_capture_behind_a_link_is_read(capture, tmp_path):
    (tmp_path / "link").symlink_to(capture)
    assert len(use(tmp_path / "link").frames) == 6


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
    files = use(capture)
    assert files.sparse_ply is None
    assert len(files.warnings) == 1
    assert "going on without them" in files.warnings[0]
    assert load_capture(capture, long_side=96)[0].sparse is None


def test_sparse_points_that_are_nan_are_refused(capture):
    header = "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
    (capture / "sparse_pc.ply").write_text(f"{header}end_header\nnan 0 0\n")
    with pytest.raises(InputError, match="finite"):
        read_transforms(capture)


def test_sparse_points_that_are_no_ply_are_refused(capture):
    (capture / "sparse_pc.ply").write_text("solid cube\n")
    with pytest.raises(InputError, match="PLY"):
        read_transforms(capture)


def test_depth_of_another_shape_is_refused(capture):
    Image.fromarray(np.ones((64, 64), np.uint16)).save(capture / "depth" / "train_00.png")
    with pytest.raises(InputError, match="have the shape of its photo"):
        read_transforms(capture)


def test_depth_in_colour_is_refused(capture):
    Image.fromarray(np.ones((64, 96, 3), np.uint8)).save(capture / "depth" / "train_00.png")
    with pytest.raises(InputError, match="one channel"):
        read_transforms(capture)


def test_truncated_depth_is_refused(capture):
    depth = capture / "depth" / "train_00.png"
    depth.write_bytes(depth.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"depth .* must be a whole image"):
        load_capture(capture, long_side=96)
    with pytest.raises(InputError, match=r"depth .* must be a whole image"):
        use(capture)


@pytest.mark.parametrize("value", ["far", 1j, True])
def test_depth_that_is_no_number_is_refused(capture, value):
    np.save(capture / "depth.npy", np.full((64, 96), value))
    edit(capture, lambda meta: meta["frames"][0].update(depth_file_path="depth.npy"))
    with pytest.raises(InputError, match="floating-point numbers"):
        read_transforms(capture)


def test_a_truncated_mask_is_refused(capture):
    mask = capture / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)).save(mask)
    mask.write_bytes(mask.read_bytes()[:-500])
    edit(capture, lambda meta: meta["frames"][0].update(mask_path="mask.png"))
    with pytest.raises(InputError, match=r"mask.png must be a whole image"):
        use(capture)


def test_tiny_photos_are_refused(capture):
    edit(capture, lambda meta: meta["frames"][0].update(w=1, h=1, cx=0.5, cy=0.5))
    Image.new("RGB", (1, 1)).save(first(capture))
    with pytest.raises(InputError, match="at least 8 pixels on each side, got 1x1"):
        read_transforms(capture)


def test_a_mask_that_leaves_nothing_is_refused(capture):
    Image.new("L", (96, 64), 0).save(capture / "mask.png")
    edit(capture, lambda meta: meta["frames"][0].update(mask_path="mask.png"))
    with pytest.raises(InputError, match=r"mask.png must be white where the photo counts"):
        use(capture)


def test_a_wholly_transparent_photo_is_refused(capture):
    Image.new("RGBA", (96, 64), (200, 10, 10, 0)).save(first(capture))
    with pytest.raises(InputError, match="have visible pixels"):
        use(capture)


@pytest.mark.parametrize("key", ["depth_file_path", "mask_path"])
def test_null_stands_for_no_file(capture, key):
    edit(capture, lambda meta: meta["frames"][0].update({key: None}))
    assert use(capture).frames[2].depth is None or key == "mask_path"


def test_depth_of_a_thin_photo_may_be_rounded(capture):
    edit(capture, lambda meta: meta["frames"][0].update(w=96, h=9, cy=4))
    Image.new("RGB", (96, 9)).save(first(capture))
    Image.fromarray(np.ones((4, 48), np.uint16)).save(capture / "depth" / "train_00.png")
    assert len(use(capture).frames) == 6


def test_a_mask_of_another_size_is_refused(capture):
    Image.fromarray(np.ones((8, 8), np.uint8)).save(capture / "mask.png")
    edit(capture, lambda meta: meta["frames"][0].update(mask_path="mask.png"))
    with pytest.raises(InputError, match="be 96x64 pixels"):
        read_transforms(capture)


def test_photos_both_trained_on_and_held_out_are_told(capture):
    edit(capture, lambda meta: meta["train_filenames"].append(meta["test_filenames"][0]))
    assert any("both trained on and held out" in warning for warning in use(capture).warnings)


def test_without_named_splits_every_photo_trains(capture):
    edit(capture, lambda meta: [meta.pop(f"{split}_filenames") for split in ("train", "val", "test")])
    files = use(capture)
    assert len(files.split("train")) == 6
    assert files.split("test") == ()


def test_held_out_photos_never_train(capture):
    edit(capture, lambda meta: meta.pop("train_filenames"))
    files = use(capture)
    assert not set(files.split("train")) & set(files.split("test"))
    assert len(files.split("train")) == 4


def test_split_files_may_be_spelled_differently(capture):
    edit(capture, lambda meta: meta.update(train_filenames=[f"./{name}" for name in meta["train_filenames"]]))
    assert len(use(capture).split("train")) == 4


def test_intrinsics_of_a_frame_override_those_of_the_capture(capture):
    edit(capture, lambda meta: meta["frames"][0].update(fl_x=77, fl_y=78, cx=40, cy=30))
    assert np.array_equal(use(capture).frames[2].K, [[77, 0, 40], [0, 78, 30], [0, 0, 1]])  # test_* come first


def test_an_angle_of_view_gives_the_focal_length(capture):
    def change(meta):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            meta.pop(key)
        meta["camera_angle_x"] = math.pi / 2

    edit(capture, change)
    assert np.allclose(use(capture).frames[0].K, [[48, 0, 48], [0, 48, 32], [0, 0, 1]])


def test_a_blender_path_without_suffix_is_found(capture):
    def change(meta):
        for entry in meta["frames"]:
            entry["file_path"] = entry["file_path"].removesuffix(".png")
        for split in ("train", "val", "test"):
            meta.pop(f"{split}_filenames")

    edit(capture, change)
    assert len(use(capture).frames) == 6


def test_real_captures_are_read(real_captures):
    for folder in real_captures:
        files = use(folder)
        assert len(files.split("train")) >= 4
        assert files.warnings == ()


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
