"""Paths in transforms.json: spellings, links and lists of splits."""

from __future__ import annotations

import pytest
from PIL import Image
from transforms_edits import edit, first, only_left_out, rename_first

from fvgen.data.read_capture import read_capture


@pytest.mark.parametrize("way", ["link", "link to the folder", "absolute path"])
def test_photos_outside_the_capture_are_read_and_named(capture, tmp_path, way):
    photo = first(capture)
    if way == "link to the folder":
        photo.parent.rename(tmp_path / "store")
        photo.parent.symlink_to(tmp_path / "store")
    else:
        photo.rename(tmp_path / "elsewhere.png")
        if way == "link":
            photo.symlink_to(tmp_path / "elsewhere.png")
        else:
            rename_first(capture, str(tmp_path / "elsewhere.png"))
    files = read_capture(capture)
    (note,) = files.notes
    assert note.startswith("Read from outside the capture: ") and str(tmp_path) in note
    assert len(files.frames) == 6


@pytest.mark.parametrize(
    "spelling", [str.upper, lambda name: name.replace("/", "\\"), lambda name: name.removesuffix(".jpg"),
                 lambda name: f"C:\\Users\\me\\{name}", lambda name: f"/home/me/scan/{name}"],
    ids=["letter case", "backslash", "no suffix", "another machine's path", "another machine's folder"],
)  # fmt: skip
def test_other_spellings_of_one_file_are_found_and_named(capture, spelling):
    photo = first(capture)
    Image.open(photo).convert("RGB").save(photo.with_suffix(".jpg"), quality=95)
    photo.unlink()
    name = spelling(f"images/{photo.stem}.jpg")
    rename_first(capture, name)
    files = read_capture(capture)
    assert len(files.split("train")) == 4
    assert files.notes == (f"Found under another spelling: {name} is images/{photo.stem}.jpg.",)


def test_a_spelling_of_two_files_is_left_out(capture):
    photo = first(capture)
    for suffix in (".jpg", ".webp"):
        Image.open(photo).convert("RGB").save(photo.with_suffix(suffix))
    photo.unlink()
    rename_first(capture, f"images/{photo.stem}")
    note, names = only_left_out(capture)
    assert f"which may be {photo.stem}.jpg or {photo.stem}.webp" in note and len(names) == 5


def test_a_capture_behind_a_link_is_read(capture, tmp_path):
    (tmp_path / "link").symlink_to(capture)
    assert len(read_capture(tmp_path / "link").frames) == 6


@pytest.mark.parametrize("key", ["depth_file_path", "mask_path"])
def test_null_stands_for_no_file(capture, key):
    edit(capture, lambda meta: meta["frames"][0].update({key: None}))
    assert read_capture(capture).frames[2].depth is None or key == "mask_path"


def test_photos_both_trained_on_and_held_out_are_noted(capture):
    edit(capture, lambda meta: meta["train_filenames"].append(meta["test_filenames"][0]))
    assert any("both trained on and held out" in warning for warning in read_capture(capture).notes)


def test_without_named_splits_every_photo_trains(capture):
    edit(capture, lambda meta: [meta.pop(f"{split}_filenames") for split in ("train", "val", "test")])
    files = read_capture(capture)
    assert len(files.split("train")) == 6
    assert files.split("test") == ()


def test_held_out_photos_never_train(capture):
    edit(capture, lambda meta: meta.pop("train_filenames"))
    files = read_capture(capture)
    assert not set(files.split("train")) & set(files.split("test"))
    assert len(files.split("train")) == 4


@pytest.mark.parametrize(
    "spelling",
    ["./{}".format, str.upper, "/home/me/scan/{}".format, lambda name: name[:-4], lambda name: name.split("/")[-1]],
)
def test_split_files_may_be_spelled_differently(capture, spelling):
    edit(capture, lambda m: m.update(train_filenames=[*map(spelling, m["train_filenames"]), ""]))
    files = read_capture(capture)
    assert len(files.split("train")) == 4 and files.notes == ()


def test_a_blender_path_without_suffix_is_found(capture):
    def change(meta):
        for entry in meta["frames"]:
            entry["file_path"] = entry["file_path"].removesuffix(".png")
        for split in ("train", "val", "test"):
            meta.pop(f"{split}_filenames")

    edit(capture, change)
    assert len(read_capture(capture).frames) == 6
