"""Masks: found beside the photos, read as tools write them, and heeded by all that works on pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from room_masks import HIDDEN, L255, SHOWN, SIZE, magenta, save_masks

from fvgen.checks import InputError
from fvgen.data.masks import read_mask
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.provider import GEOMETRY_PROVIDERS


def in_alpha(colour):
    image = Image.new("RGBA", SIZE, colour)
    image.putalpha(Image.fromarray(255 * SHOWN.astype(np.uint8)))
    return image


def palette(colours):
    image = Image.fromarray(SHOWN.astype(np.uint8), "P")
    image.putpalette(colours)
    return image


def things_in_palette():
    """Colours as bright as DAVIS gives its ninth thing, and the first."""
    image = Image.fromarray(SHOWN * (1 + np.arange(SIZE[0], dtype=np.uint8) // 48), "P")
    image.putpalette([0, 0, 0, 64, 0, 0, 0, 128, 0])
    return image


KINDS = {
    "0 and 255": L255,
    "0 and 1": Image.fromarray(SHOWN.astype(np.uint8)),
    "1 bit": L255.convert("1"),
    "16 bit": Image.fromarray(65535 * SHOWN.astype(np.uint16)),
    "16 bit, 0 and 255": Image.fromarray(255 * SHOWN.astype(np.uint16)),
    "16 bit, 0 and 1": Image.fromarray(SHOWN.astype(np.uint16)),
    "RGB": L255.convert("RGB"),
    "RGBA, opaque": L255.convert("RGBA"),
    "alpha, white": in_alpha((255, 255, 255, 0)),
    "alpha, black": in_alpha((0, 0, 0, 0)),
    "grey and alpha": in_alpha((255, 255, 255, 0)).convert("LA"),
    "palette of black and white": palette([0, 0, 0, 255, 255, 255]),
    "palette of labels": palette([0, 0, 0, 128, 0, 0]),
    "numbers of things": Image.fromarray(SHOWN * (1 + np.arange(SIZE[0], dtype=np.uint8) // 40)),
    "palette of things": things_in_palette(),
    "floats": Image.fromarray(SHOWN.astype(np.float32)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_counts_where_it_is_white(tmp_path, kind):
    path = tmp_path / ("a.tif" if KINDS[kind].mode == "F" else "a.png")
    KINDS[kind].save(path)
    assert np.array_equal(read_mask(path, SIZE), SHOWN)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_masks_are_good_but_for_their_borders(tmp_path, suffix):
    L255.save(tmp_path / f"a.{suffix}", quality=70)
    assert (read_mask(tmp_path / f"a.{suffix}", SIZE) != SHOWN).mean() < 0.01
    Image.effect_noise(SIZE, 3).point(lambda value: max(value - 124, 0)).save(tmp_path / f"black.{suffix}", quality=70)
    assert not read_mask(tmp_path / f"black.{suffix}", SIZE).any()


@given(st.integers(8, 96), st.integers(8, 64))
def test_a_smaller_mask_hides_every_pixel_that_is_mixed_with_what_it_hides(tmp_path_factory, width, height):
    path = tmp_path_factory.getbasetemp() / "mask.png"
    if not path.exists():
        L255.save(path)
    edges = [np.arange(count + 1) * full / count for count, full in ((height, 64), (width, 96))]
    shares = [
        np.clip(np.minimum(edge[1:], part.stop) - np.maximum(edge[:-1], part.start), 0, None) / np.diff(edge)
        for edge, part in zip(edges, HIDDEN, strict=True)
    ]
    hidden = shares[0][:, None] * shares[1]
    mask = read_mask(path, (width, height))
    assert not mask[hidden > 0.02].any() and mask[hidden == 0].all()


def test_a_larger_mask_repeats_its_pixels(tmp_path):
    L255.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png", (192, 128)), SHOWN.repeat(2, axis=0).repeat(2, axis=1))


PLACES = {
    "masks/NAME.png": lambda name: Path("masks") / name,
    "masks/NAME.png.png, as COLMAP has it": lambda name: Path("masks") / f"{name}.png",
    "masks_4/NAME.png": lambda name: Path("masks_4") / name,
    "masks/NAME.tif": lambda name: Path("masks") / name.with_suffix(".tif"),
    "masks/NAME_mask.png": lambda name: Path("masks") / f"{name.stem}_mask.png",
    "mask/NAME.png": lambda name: Path("mask") / name,
    "Masks/NAME.PNG": lambda name: Path("Masks") / name.with_suffix(".PNG"),
    "images/masks/NAME.png": lambda name: Path("images/masks") / name,
    "images/NAME_mask.png": lambda name: Path("images") / f"{name.stem}_mask.png",
    "images/NAME.png.mask.png, as RealityCapture has it": lambda name: Path("images") / f"{name}.mask.png",
    "masks/mask_NAME.jpg": lambda name: Path("masks") / f"mask_{name.stem}.jpg",
}


@pytest.mark.parametrize("place", PLACES)
def test_masks_are_found_beside_the_photos(capture, place):
    save_masks(capture, PLACES[place])
    files = read_capture(capture)
    assert all(frame.mask is not None and frame.mask.is_file() for frame in files.frames)
    assert (read_mask(files.frames[0].mask, SIZE) != SHOWN).mean() < (0.02 if place.endswith(".jpg") else 1e-9)
    assert not any("have a pose" in note for note in files.notes)  # masks beside the photos are no photos


def test_masks_keep_the_folders_of_their_photos(capture):
    meta = json.loads((capture / "transforms.json").read_text())
    for i, frame in enumerate(meta["frames"]):
        old, new = frame["file_path"], f"images/cam{i}/shot.png"
        (capture / new).parent.mkdir()
        (capture / old).rename(capture / new)
        frame["file_path"] = new
        for split in ("train", "val", "test"):
            meta[f"{split}_filenames"] = [new if name == old else name for name in meta[f"{split}_filenames"]]
    (capture / "transforms.json").write_text(json.dumps(meta))
    save_masks(capture, lambda name: Path("masks") / name)
    for frame in read_capture(capture).frames:
        assert frame.mask == capture / "masks" / frame.photo.parent.name / "shot.png"


def test_some_photos_alone_may_have_masks_and_a_note_says_how_many(capture):
    save_masks(capture, lambda name: Path("masks") / name, names=("train_00.png", "train_02.png"))
    files = read_capture(capture)
    assert [frame.photo.name for frame in files.frames if frame.mask] == ["train_00.png", "train_02.png"]
    assert "2 of 6 photos have a mask; the others count whole." in files.notes


def test_masks_that_belong_to_no_photo_are_named(capture):
    (capture / "masks").mkdir()
    L255.save(capture / "masks" / "something.png")
    assert any(
        note.startswith(f"No mask in {capture / 'masks'} has the name and folders of a photo")
        for note in read_capture(capture).notes
    )


def test_a_folder_of_another_name_is_noted_for_white_may_mean_the_opposite_there(capture):
    save_masks(capture, lambda name: Path("dynamic_masks") / name)
    note = f"{capture / 'dynamic_masks'} is not used: masks lie in a folder called masks, white where the photo counts."
    assert note in read_capture(capture).notes


@pytest.mark.parametrize("value", [None, ""])
def test_a_frame_may_say_that_it_has_no_mask(capture, value):
    meta = json.loads((capture / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame["mask_path"] = value
    (capture / "transforms.json").write_text(json.dumps(meta))
    assert [frame.mask for frame in read_capture(capture).frames] == [None] * 6


def test_the_description_has_the_last_word(capture):
    save_masks(capture, lambda name: Path("masks") / name)
    meta = json.loads((capture / "transforms.json").read_text())
    Image.new("L", SIZE, 255).save(capture / "white.png")
    meta["frames"][0]["mask_path"] = "white.png"
    (capture / "transforms.json").write_text(json.dumps(meta))
    masks = {frame.name: frame.mask for frame in read_capture(capture).frames}
    assert masks.pop(meta["frames"][0]["file_path"]) == capture / "white.png"
    assert all(mask.parent.name == "masks" for mask in masks.values())


def missing(path):
    path.unlink()


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 255, SIZE[::-1], dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])


def black(path):
    Image.new("L", SIZE, 0).save(path)


def of_another_shape(path):
    Image.new("L", (64, 64), 255).save(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "mask_path of images/train_00.png must be an existing file"),
        (truncated, "must be a whole image"),
        (black, "must be white, or 1, where the photo counts"),
        (of_another_shape, "must have the shape of its photo (96x64), got 64x64"),
    ],
)
def test_a_mask_that_cannot_be_used_costs_its_photo(capture, spoil, message):
    """What it hides must not be trained on."""
    L255.save(capture / "mask.png")
    meta = json.loads((capture / "transforms.json").read_text())
    meta["frames"][0]["mask_path"] = "mask.png"
    (capture / "transforms.json").write_text(json.dumps(meta))
    spoil(capture / "mask.png")
    files = read_capture(capture)
    assert len(files.frames) == 5 and files.notes[0].startswith("Left out: images/train_00.png: ")
    assert message in files.notes[0] and "nvert" not in files.notes[0]


def test_what_masks_hide_is_neither_in_the_photos_nor_in_the_cloud(capture):
    meta = json.loads((capture / "transforms.json").read_text())
    for frame in meta["frames"]:
        frame.pop("depth_file_path")  # plane sweep, not measured depth
    (capture / "transforms.json").write_text(json.dumps(meta))
    save_masks(capture, lambda name: Path("masks") / name)
    loaded, _ = load_capture(capture, long_side=96)
    assert not loaded.valid[:, HIDDEN[0], HIDDEN[1]].any() and not magenta(loaded.photos)
    geometry = GEOMETRY_PROVIDERS["plane-sweep"]().reconstruct(loaded)
    assert len(geometry.points) > 100 and not magenta(geometry.points.rgb.T[:, None])
    assert not geometry.depths[:, HIDDEN[0], HIDDEN[1]].any()


def test_sparse_points_that_no_photo_shows_are_not_used(capture):
    before = read_capture(capture).points
    save_masks(capture, lambda name: Path("masks") / name)
    files = read_capture(capture)
    hidden = len(before) - len(files.points)
    assert hidden > 0
    assert f"{hidden} of {len(before)} sparse points lie where masks hide the photos: not used." in files.notes
    train = [files.frames[i] for i in files.split("train")]
    for point in files.points.xyz:
        places = []
        for frame in train:
            local = frame.c2w[:3, :3].T @ (point.numpy() - frame.c2w[:3, 3])
            u, v = ((frame.K @ local)[:2] / local[2]).astype(int) if local[2] > 0 else (-1, -1)
            if 0 <= u < SIZE[0] and 0 <= v < SIZE[1]:
                places.append(bool(SHOWN[v, u]))
        assert any(places) or not places
    assert torch.isin(files.points.xyz[:, 0], before.xyz[:, 0]).all()


def test_masks_of_a_few_photos_do_not_hide_the_others(capture):
    save_masks(capture, lambda name: Path("masks") / name, names=("train_00.png",))
    with pytest.raises(InputError):
        read_mask(capture / "masks" / "train_01.png", SIZE)
    valid = load_capture(capture, long_side=96)[0].valid.flatten(1).float().mean(dim=1)
    assert valid.tolist() == pytest.approx([float(SHOWN.mean()), 1, 1, 1])


@pytest.mark.parametrize("ignored", [False, True], ids=["honoured", "ignored"])
def test_a_mask_that_carries_its_photos_orientation_is_turned_as_the_photo_is(tmp_path, ignored):
    upright = Image.fromarray(255 * SHOWN.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 3
    for size in (SIZE, (SIZE[0] // 2, SIZE[1] // 2)):
        mask = upright.resize(size, Image.Resampling.NEAREST)
        stored = mask if ignored else mask.transpose(Image.Transpose.ROTATE_180)
        stored.save(tmp_path / "mask.png", exif=exif)
        read = read_mask(tmp_path / "mask.png", size, SIZE, exif_ignored=ignored)
        assert np.array_equal(read, np.asarray(mask) > 0)
