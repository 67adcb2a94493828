"""Alpha channels: a mask where they differ from a cut-out subject, empty space where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from room_masks import SHOWN, SIZE, magenta, save_masks

from fvgen.data.masks import frame_mask
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture


def save_alpha(capture, alpha, names=None):
    """Alpha channels ``alpha(i)`` for the photos, which are magenta where they are transparent."""
    for i, photo in enumerate(sorted((capture / "images").glob("*.png"))):
        if names is None or photo.name in names:
            pixels, opaque = np.array(Image.open(photo).convert("RGB")), alpha(i)
            pixels[~opaque] = (255, 0, 255)
            image = Image.fromarray(pixels)
            image.putalpha(Image.fromarray(255 * opaque.astype(np.uint8)))
            image.save(photo)


def hole(i):
    return np.roll(SHOWN, 7 * i, axis=1)


def subject(i):
    rows, columns = np.mgrid[:64, :96]
    return (rows - 32) ** 2 + (columns - 40 - 4 * i) ** 2 < 25**2


def lens_border(i):
    rows, columns = np.mgrid[:64, :96]
    return (rows - 32) ** 2 + (0.7 * (columns - 48)) ** 2 < 33**2


ALPHA_MASKS = {
    "all": (hole, None),
    "some": (hole, ("train_01.png", "val_00.png")),
    "some photos show what is around": (subject, ("train_00.png", "train_01.png")),
    "beyond a lens's border": (lens_border, None),
}


@pytest.mark.parametrize("kind", ALPHA_MASKS)
def test_an_alpha_channel_is_a_mask(capture, kind):
    alpha, names = ALPHA_MASKS[kind]
    save_alpha(capture, alpha, names)
    files = read_capture(capture)
    numbers = {path.name: i for i, path in enumerate(sorted((capture / "images").glob("*.png")))}
    for frame in files.frames:
        number = numbers[frame.photo.name]
        if names is not None and frame.photo.name not in names:
            assert frame.mask is None
        else:
            assert np.array_equal(frame_mask(frame, SIZE), alpha(number))
    assert not any("cut out" in note for note in files.notes)
    loaded, _ = load_capture(capture, long_side=96)
    assert not magenta(loaded.photos)


def test_transparency_around_a_subject_is_empty_space_as_in_nerfs_scenes(capture):
    save_alpha(capture, subject)
    files = read_capture(capture)
    assert all(frame.mask is None for frame in files.frames)
    assert any(
        note.startswith("The photos are cut out: transparent pixels count as empty space") for note in files.notes
    )


def test_masks_that_are_given_stand_before_transparency(capture):
    save_alpha(capture, subject)
    save_masks(capture, lambda name: Path("masks") / name)
    assert all(frame.mask.parent.name == "masks" for frame in read_capture(capture).frames)


def test_an_alpha_channel_that_hides_nothing_is_no_mask(capture):
    save_alpha(capture, lambda i: np.ones(SIZE[::-1], bool))
    assert all(frame.mask is None for frame in read_capture(capture).frames)


def test_the_alpha_channel_of_a_photo_whose_orientation_is_ignored_lies_as_its_pixels(capture):
    save_alpha(capture, hole)
    for photo in sorted((capture / "images").glob("*.png")):
        with Image.open(photo) as image:
            exif = image.getexif()
            exif[0x0112] = 3
            image.save(photo, exif=exif)
    files = read_capture(capture)
    assert all(frame.exif_ignored for frame in files.frames)
    assert np.array_equal(frame_mask(files.frames[0], SIZE), hole(0))
