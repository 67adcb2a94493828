import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile

from fvgen.checks import InputError
from fvgen.data.photos import check_photo_size, check_whole, is_portable, photo_size, read_photo

UPRIGHT = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
STORED_AS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How an upright array is stored under each EXIF orientation (inverse of TIFF 6.0's table of row 0 and column 0)."""


def save_turned(path, orientation, pixels=UPRIGHT):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED_AS[orientation](pixels))
    Image.fromarray(stored).save(path, exif=exif)
    return stored


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("expected", [None, (30, 20)])
def test_turned_photos_are_read_upright(tmp_path, orientation, expected):
    save_turned(tmp_path / "photo.png", orientation)
    assert photo_size(tmp_path / "photo.png", expected) == (30, 20)
    assert np.array_equal(read_photo(tmp_path / "photo.png", expected), UPRIGHT)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_intrinsics_of_the_stored_size_mean_the_stored_pixels(tmp_path, orientation):
    stored = save_turned(tmp_path / "photo.png", orientation)
    check_photo_size(tmp_path / "photo.png", (20, 30))
    assert np.array_equal(read_photo(tmp_path / "photo.png", (20, 30)), stored)


@pytest.mark.parametrize("orientation", [0, 9, 4711])
def test_an_orientation_that_does_not_exist_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(UPRIGHT).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "photo.png"), UPRIGHT)


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(UPRIGHT[..., 0]).save(tmp_path / "grey.png")
    assert np.array_equal(read_photo(tmp_path / "grey.png"), np.repeat(UPRIGHT[..., :1], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey_keeps_its_brightness(tmp_path, suffix):
    deep = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep{suffix}")
    rgb = read_photo(tmp_path / f"deep{suffix}", (30, 20))
    assert rgb.dtype == np.uint8
    assert np.abs(rgb[..., 0] - deep / 257).max() <= 0.5
    assert (rgb == rgb[..., :1]).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_sixteen_bit_grey_is_turned(tmp_path, orientation):
    deep = UPRIGHT[..., 0].astype(np.uint16) * 257
    save_turned(tmp_path / "deep.png", orientation, deep)
    assert np.array_equal(read_photo(tmp_path / "deep.png")[..., 0], UPRIGHT[..., 0])


def test_sixteen_bit_colour_keeps_its_brightness(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), UPRIGHT[..., ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_photo(tmp_path / "deep.png"), UPRIGHT)


def test_transparency_comes_as_a_fourth_channel(tmp_path):
    rgba = np.concatenate([UPRIGHT, UPRIGHT[..., :1]], axis=2)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    assert np.array_equal(read_photo(tmp_path / "rgba.png"), rgba)


def test_palettes_give_their_colours(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    index = UPRIGHT[..., 0] % 3
    image = Image.fromarray(index).convert("P")
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "palette.png")
    image.save(tmp_path / "see_through.png", transparency=1)
    assert np.array_equal(read_photo(tmp_path / "palette.png"), colours[index])
    assert np.array_equal(read_photo(tmp_path / "see_through.png")[..., 3], np.where(index == 1, 0, 255))


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_truncated_photos_are_refused_by_name(tmp_path, kind, share):
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(np.tile(UPRIGHT, (10, 10, 1))).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_photo(path)


def test_photos_of_another_size_are_refused(tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match="be 31x20 pixels as its intrinsics say, got 30x20"):
        read_photo(tmp_path / "photo.png", (31, 20))


def test_missing_photos_are_refused(tmp_path):
    with pytest.raises(InputError, match="existing file"):
        read_photo(tmp_path / "gone.png")


@pytest.mark.parametrize("kind", ["plain", "grey", "transparent", "rotated", "deep", "palette", "shrunk"])
def test_files_that_other_tools_would_misread_are_told_apart(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    modes = {"grey": "L", "transparent": "RGBA", "palette": "P"}
    image = Image.fromarray(pixels).convert(modes.get(kind, "RGB"))
    exif = Image.Exif()
    if kind == "rotated":
        exif[0x0112] = 6
    if kind == "deep":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) << 8)
    image.save(tmp_path / "a.png", exif=exif)
    size = (20, 30) if kind == "rotated" else (60, 40) if kind == "shrunk" else (30, 20)
    assert is_portable(tmp_path / "a.png", size) == (kind in ("plain", "grey", "transparent"))


@pytest.mark.parametrize("place", ["before the pixels", "after them"])
def test_headers_of_png_files_are_read_without_their_pixels(tmp_path, place, monkeypatch):
    exif, path = Image.Exif(), tmp_path / "a.png"
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    if place == "after them":
        content = path.read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        last = content.index(b"IEND") - 4
        path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    else:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert photo_size(path) == (20, 30)


SMOOTH = np.asarray(Image.fromarray(UPRIGHT).resize((300, 200), Image.Resampling.BICUBIC))


def save_heic(path, pixels=SMOOTH, orientation=1):
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = heif.from_pillow(Image.fromarray(np.ascontiguousarray(STORED_AS[orientation](pixels))))
    file.info["exif"] = exif.tobytes()
    file.save(path, quality=95)


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("suffix", ["heic", "jpg"])  # phones rename them
def test_heic_photos_are_read_upright_and_not_passed_on_as_they_are(tmp_path, orientation, suffix):
    path = tmp_path / f"a.{suffix}"
    save_heic(path, orientation=orientation)
    pixels = read_photo(path, (300, 200))
    assert np.abs(pixels.astype(int) - SMOOTH).mean() < 5
    assert not is_portable(path, (300, 200))


def test_heic_without_its_decoder_names_what_reads_it(tmp_path):
    save_heic(tmp_path / "a.heic")
    code = """
import sys
from pathlib import Path
sys.modules["pillow_heif"] = None
from fvgen.checks import InputError
from fvgen.data.photos import read_photo
try:
    read_photo(Path(sys.argv[1]))
except InputError as error:
    print(error)
"""
    text = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.heic"], capture_output=True, text=True, check=True
    ).stdout
    assert "got HEIC, which takes pillow-heif" in text and "pip install 'fvgen-nerfstudio[poses]'" in text


@pytest.mark.parametrize(("suffix", "bytes_cut"), [("png", 300), ("jpg", 300), ("webp", 300), ("tif", 3000)])
def test_photos_that_are_cut_off_are_told_from_whole_ones(tmp_path, suffix, bytes_cut):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    thumbnail = Image.Exif()
    thumbnail[0x9286] = "\xff\xd8\xff\xd9"  # what ends a picture within the metadata ends nothing
    Image.fromarray(noise).save(path, exif=thumbnail)
    check_whole(path)
    path.write_bytes(path.read_bytes()[:-bytes_cut])
    with pytest.raises(InputError, match=rf"{path.name} must be (a whole image|an image that Pillow reads)"):
        check_whole(path)


def test_damage_within_a_png_is_found(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[5000] ^= 0xFF
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="be a whole image"):
        check_whole(tmp_path / "a.png")


def test_files_after_the_picture_do_no_harm(tmp_path):
    """Phones append a film to a JPEG; others end it with zeros."""
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    for appended in (b"\0\0\0\x18ftypmp42" + bytes(500), bytes(100)):
        (tmp_path / "a.jpg").write_bytes(content + appended)
        check_whole(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", [pytest.param("png", marks=pytest.mark.slow), "jpg"])
def test_photos_of_very_many_pixels_are_shrunk(tmp_path, suffix):
    large = Image.fromarray(SMOOTH).resize((6900, 4800), Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[0x0112] = 8
    large.transpose(Image.Transpose.ROTATE_270).save(tmp_path / f"a.{suffix}", exif=exif, quality=95, compress_level=1)
    pixels = read_photo(tmp_path / f"a.{suffix}", (6900, 4800), at_least=1600)
    assert pixels.shape == (2400, 3450, 3)
    expected = np.asarray(large.reduce(2)).astype(int)
    assert np.abs(pixels - expected).mean() < 1.5  # JPEG's own loss
    assert read_photo(tmp_path / f"a.{suffix}", (6900, 4800), at_least=6000).shape == (4800, 6900, 3)


@pytest.mark.slow
def test_a_photo_of_200_megapixels_is_read_in_bounded_memory(tmp_path):
    Image.fromarray(SMOOTH).resize((16320, 12240)).save(tmp_path / "a.jpg", quality=70)
    code = """
import resource, sys
from pathlib import Path
from fvgen.data.photos import check_whole, read_photo
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
check_whole(Path(sys.argv[1]))
assert read_photo(Path(sys.argv[1]), (16320, 12240), at_least=960).shape == (3060, 4080, 3)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.jpg"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500 and not done.stderr  # MiB; all pixels take 800 in Pillow and 600 in numpy


@pytest.mark.slow
def test_photos_beyond_what_is_taken_are_to_be_shrunk(tmp_path):
    Image.new("1", (30_000, 20_000)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"at most 500 megapixels, got 600\. Shrink it"):
        photo_size(tmp_path / "a.png")
