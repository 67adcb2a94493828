"""Photos whose EXIF orientation their poses may or may not honour, found by sizes or by the sparse points' colours."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from fvgen.data.photos import read_photo
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.points import read_ply, write_ply

STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
"""How an upright photo is stored under each EXIF orientation (the inverse of TIFF 6.0's table)."""


def tagged(capture, orientation, *, honoured, square=False, only=None):
    """Tag the capture's photos; poses stay those of the upright photos (honoured) or of the stored ones.

    Returns the pixels that the poses belong to, by name.
    """
    file = capture / "transforms.json"
    meta = json.loads(file.read_text())
    side, left = meta["h"], (meta["w"] - meta["h"]) // 2
    if square:
        meta |= {"w": side, "cx": meta["cx"] - left}
    for frame in meta["frames"]:
        frame.pop("depth_file_path")
    file.write_text(json.dumps(meta))
    expected = {}
    for frame in meta["frames"]:
        path = capture / frame["file_path"]
        image = Image.open(path).convert("RGB")
        image = image.crop((left, 0, left + side, side)) if square else image
        expected[path.name] = np.asarray(image)
        exif = Image.Exif()
        if only is None or path.name in only:
            exif[0x0112] = orientation
            image = image.transpose(STORED_AS[orientation]) if honoured else image
        image.save(path, exif=exif)
    return expected


def pixels(frame):
    return read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored)


@pytest.mark.parametrize("honoured", [True, False], ids=["honoured", "ignored"])
@pytest.mark.parametrize(("orientation", "square"), [*((o, False) for o in STORED_AS), *((o, True) for o in STORED_AS)])
def test_photos_agree_with_their_poses(capture, orientation, square, honoured):
    expected = tagged(capture, orientation, honoured=honoured, square=square)
    files = read_capture(capture)
    for frame in files.frames:
        assert np.array_equal(pixels(frame), expected[frame.photo.name])
    undecided = square or orientation in (2, 3, 4)
    assert any("read as they are stored" in note for note in files.notes) == (undecided and not honoured)
    photos, names = load_capture(capture, long_side=96)
    first = expected[names[0].split("/")[-1]]
    assert np.array_equal((255 * photos.photos[0]).round().byte().permute(1, 2, 0).numpy(), first)


@pytest.mark.parametrize("honoured", [True, False], ids=["honoured", "ignored"])
def test_one_tagged_photo_is_told_alone(capture, honoured):
    expected = tagged(capture, 3, honoured=honoured, only=("train_01.png",))
    for frame in read_capture(capture).frames:
        assert np.array_equal(pixels(frame), expected[frame.photo.name])


@pytest.mark.parametrize("points", ["none", "without colours"])
def test_without_coloured_points_what_is_assumed_is_said(capture, points):
    if points == "none":
        (capture / "sparse_pc.ply").unlink()
    else:
        cloud = read_ply(capture / "sparse_pc.ply")
        write_ply(capture / "sparse_pc.ply", type(cloud)(cloud.xyz, 0 * cloud.rgb + 0.5, cloud.confidence))
    expected = tagged(capture, 3, honoured=True)
    files = read_capture(capture)
    (note,) = (note for note in files.notes if "EXIF" in note)
    assert re.match(r"6 photos carry an EXIF orientation\. .*: taken as upright\. .*remove that tag", note)
    assert all(np.array_equal(pixels(frame), expected[frame.photo.name]) for frame in files.frames)


def test_photos_that_sizes_tell_tell_the_others(capture):
    """One tool made all poses: where wide photos show that it ignores the tag, it does so for upside down ones."""
    (capture / "sparse_pc.ply").unlink()
    expected = tagged(capture, 6, honoured=False, only=("train_00.png",))
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(expected["train_01.png"]).save(capture / "images/train_01.png", exif=exif)
    files = read_capture(capture)
    assert all(np.array_equal(pixels(frame), expected[frame.photo.name]) for frame in files.frames)
    assert any("The poses ignore the EXIF orientation of 1 photos" in note for note in files.notes)
