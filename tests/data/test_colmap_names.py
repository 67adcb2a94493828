"""Names of photos in COLMAP models, and lists of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from colmap_models import same_cameras, write_colmap
from PIL import Image

from fvgen.data.read_capture import read_capture

NAMES = {
    "spaces": lambda name: f"IMG {name[-5]} (2){name[-4:]}",
    "sub-folders": lambda name: f"cam{name[-5]}/shot.png",
    "letters of the world": lambda name: f"Façade 写真 Фото {name}",
    "numbers": lambda name: name[-5],
    "brackets and hashes": lambda name: f"#[{name[-5]}]%20&.png",
}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("kind", NAMES)
def test_photos_may_be_called_anything(photos, frames, kind, text):
    names = [NAMES[kind](frame.photo.name) for frame in frames]
    for frame, name in zip(frames, names, strict=True):
        (photos / "images" / name).parent.mkdir(exist_ok=True)
        (photos / "images" / frame.photo.name).rename(photos / "images" / name)
    write_colmap(photos / "sparse/0", frames, names=names, text=text)
    found = {frame.photo: frame for frame in read_capture(photos).frames}
    assert len(found) == 6
    for frame, name in zip(frames, names, strict=True):
        np.testing.assert_allclose(found[photos / "images" / name].c2w, frame.c2w, atol=1e-9)


SPELLINGS = {
    "letter case": str.upper,
    "backslash": lambda name: name.replace("/", "\\"),
    "another suffix": lambda name: name.replace(".png", ".jpeg"),
    "path on another machine": lambda name: f"/home/me/scan/images/{name}",
    "path on Windows": lambda name: f"C:\\scan\\images\\{name}",
}


@pytest.mark.parametrize("change", SPELLINGS.values(), ids=SPELLINGS)
def test_other_spellings_of_names_are_found_and_noted(photos, frames, points, change):
    (photos / "images").rename(photos / "shots")
    (photos / "images").mkdir()
    (photos / "shots").rename(photos / "images/cam0")
    names = [change(f"cam0/{frame.photo.name}") for frame in frames]
    write_colmap(photos / "sparse/0", frames, points, names=names)
    files = read_capture(photos)
    same_cameras(files.frames, frames)
    (note,) = files.notes
    assert note.startswith("Found under another spelling: ") and note.count(" is images/cam0/") == 6


LISTS = {
    "plain": lambda names: "\n".join(names) + "\n",
    "empty lines": lambda names: "\n\n".join(names) + "\n\n\n",
    "Windows": lambda names: "\ufeff" + "\r\n".join(names) + "\r\n\r\n",
    "with their folder": lambda names: "\n".join(f"images/{name}" for name in names),
    "another letter case": lambda names: "\n".join(names).upper(),
    "without suffix": lambda names: "\n".join(name.removesuffix(".png") for name in names),
    "with backslashes": lambda names: "\n".join(f".\\images\\{name}" for name in names),
    "with paths of another machine": lambda names: "\n".join(f"/home/me/scan/images/{name}" for name in names),
}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("lists", [("train", "test"), ("val",)])
def test_lists_of_names_split_the_photos(photos, frames, form, lists):
    write_colmap(photos / "sparse/0", frames)
    names = [frame.photo.name for frame in frames]
    parts = {"train": names[:4], "test": names[4:], "val": names[4:]}
    for split in lists:
        (photos / f"{split}_list.txt").write_text(LISTS[form](parts[split]), newline="")
    files = read_capture(photos)
    assert [files.frames[i].photo.name for i in files.split("train")] == names[:4]
    assert [files.frames[i].photo.name for i in files.split("test")] == names[4:]


def test_a_list_by_powershell_is_read(photos, frames):
    write_colmap(photos / "sparse/0", frames)
    names = [frame.photo.name for frame in frames]
    (photos / "Train_List.txt").write_bytes("\r\n".join(names[:4]).encode("utf-16"))
    assert [read_capture(photos).frames[i].photo.name for i in read_capture(photos).split("train")] == names[:4]


def test_the_list_of_3d_gaussian_splatting_is_read(photos, frames):
    model = write_colmap(photos / "sparse/0", frames)
    (model / "test.txt").write_text(f"{frames[1].photo.name}\n")
    files = read_capture(photos)
    assert files.split("test") == (1,) and files.split("train") == (0, 2, 3, 4, 5)


def test_a_name_in_a_list_that_several_photos_have_is_left_out(photos, frames):
    names = [f"cam{i % 2}/{i // 2}.png" for i in range(6)]
    for frame, name in zip(frames, names, strict=True):
        (photos / "images" / name).parent.mkdir(exist_ok=True)
        (photos / "images" / frame.photo.name).rename(photos / "images" / name)
    write_colmap(photos / "sparse/0", frames, names=names)
    (photos / "test_list.txt").write_text("cam0/0.png\ncam2/1.png\n2.png\n")
    files = read_capture(photos)
    assert [files.frames[i].name for i in files.split("test")] == ["images/cam0/0.png"]
    assert "cam2/1.png of test_list.txt: a name in test_list.txt must be that of a photo with a pose" in files.notes[0]
    assert "mean one photo, got 2.png, which may be images/cam0/2.png or images/cam1/2.png." in files.notes[0]


def test_photos_that_are_gone_and_photos_without_a_pose_are_counted(photos, frames):
    write_colmap(photos / "sparse/0", frames[:4])
    (photos / "images" / frames[1].photo.name).unlink()
    (photos / "images" / f"._{frames[0].photo.name}").write_bytes(b"of macOS")
    files = read_capture(photos)
    same_cameras(files.frames, [frames[0], *frames[2:4]])
    assert files.notes[0].startswith(f"Left out: images/{frames[1].photo.name}: ")
    assert f"3 of the 5 photos in {photos / 'images'} have a pose; the others are not used." in files.notes


def test_copies_of_the_photos(photos, frames):
    """images_2 beside sparse, as the data sets of Gaussian splatting come, without images."""
    write_colmap(photos / "sparse/0", frames)
    (photos / "images").rename(photos / "images_2")
    for path in (photos / "images_2").iterdir():
        with Image.open(path) as image:
            small = image.resize((48, 32), Image.Resampling.BOX)
        small.save(path)
    for a, b in zip(read_capture(photos).frames, frames, strict=True):
        assert a.size == (48, 32) and a.photo.is_file() and a.name == b.name
        np.testing.assert_allclose(a.K[:2], b.K[:2] / 2)


def test_paths_of_photos_may_not_lead_out_of_the_capture(photos, frames):
    names = [frame.photo.name for frame in frames]
    shutil.copy(photos / "images" / names[0], photos / "outside.png")
    write_colmap(photos / "sparse" / "0", frames, names=["../outside.png", *names[1:]])
    files = read_capture(photos)
    assert len(files.frames) == 5 and "stay inside the capture" in files.notes[0]
    assert Path(files.frames[0].photo).parent == photos / "images"
