from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from fvgen.checks import InputError
from fvgen.poses.intake import find_media, read_intake


def picture(seed: int, size=(120, 90)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def taken_in(source, scratch):
    files, videos, root, notes = find_media(source, scratch)
    assert not videos
    return read_intake(files, root, notes)


def test_a_folder_gives_its_photos_by_name_and_names_what_is_left_out(tmp_path):
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    picture(0).save(folder / "b.jpg")
    picture(1).save(folder / "A.PNG")
    picture(2).save(folder / "more" / "c.jpeg")
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.jpg").write_bytes(b"no photo either")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    intake = taken_in(folder, tmp_path)
    assert [photo.name for photo in intake.photos] == ["A.PNG", "b.jpg", "more/c.jpeg"]
    assert "notes.txt" in intake.notes[0] and ".hidden" not in intake.notes[0]
    assert "broken.jpg was left out" in intake.notes[1]


def test_an_archive_is_a_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("trip/1.jpg", "trip/2.jpg", "__MACOSX/trip/._1.jpg"):
            picture(len(name)).save(tmp_path / "one.jpg")
            archive.write(tmp_path / "one.jpg", name)
        archive.writestr("trip/readme.md", "words")
        archive.writestr("../outside.jpg", b"")
    (tmp_path / "scratch").mkdir()
    intake = taken_in(tmp_path / "photos.zip", tmp_path / "scratch")
    assert [photo.name for photo in intake.photos] == ["trip/1.jpg", "trip/2.jpg"]
    assert "trip/readme.md" in intake.notes[0]
    assert not (tmp_path / "outside.jpg").exists()


@pytest.mark.parametrize("files", [[], ["a.txt"], ["a.cr2", "b.cr2"]])
def test_a_place_without_photos_is_refused(tmp_path, files):
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="must hold photos or a video"):
        find_media(tmp_path, tmp_path)


def test_raw_files_are_named_as_such(tmp_path):
    (tmp_path / "a.cr2").write_bytes(b"x")
    with pytest.raises(InputError, match=r"1 raw files.*Export raw files as JPEG"):
        find_media(tmp_path, tmp_path)


def test_one_photo_is_too_few(tmp_path):
    picture(0).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"at least 2 photos, got 1\. Take more photos"):
        taken_in(tmp_path, tmp_path)


def test_a_damaged_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"x" * 1000)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[60] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="whole zip archive"):
        find_media(tmp_path / "a.zip", tmp_path)


def with_exif(tags: dict[int, object], details: dict[int, object], size=(120, 90)) -> tuple[Image.Image, Image.Exif]:
    image = picture(0, size)
    exif = image.getexif()
    exif.update(tags)
    exif.get_ifd(ExifTags.IFD.Exif).update(details)
    return image, exif


def store(path, tags, details, size=(120, 90)):
    image, exif = with_exif(tags, details, size)
    image.save(path, exif=exif)


def test_the_35_mm_equivalent_gives_the_focal_length(tmp_path):
    store(tmp_path / "a.jpg", {}, {ExifTags.Base.FocalLengthIn35mmFilm: 26})
    store(tmp_path / "b.jpg", {}, {})
    recorded, silent = taken_in(tmp_path, tmp_path).photos
    # 43.27 mm is the diagonal of 36 x 24 mm, 150 that of 120 x 90 pixels
    assert recorded.focal == pytest.approx(26 / 43.27 * 150 / 120, rel=2e-3)
    assert silent.focal is None


def test_a_sensor_that_is_known_gives_the_focal_length(tmp_path):
    camera = {ExifTags.Base.Make: "NIKON CORPORATION", ExifTags.Base.Model: "NIKON D90"}
    for name in "ab":
        store(tmp_path / f"{name}.jpg", camera, {ExifTags.Base.FocalLength: IFDRational(50, 1)}, (150, 100))
    for photo in taken_in(tmp_path, tmp_path).photos:
        assert photo.focal == pytest.approx(50 / 23.6, rel=1e-2)  # the D90's sensor is 23.6 mm wide


def test_a_cropped_photo_says_nothing_of_its_focal_length(tmp_path):
    stored = {ExifTags.Base.ExifImageWidth: 120, ExifTags.Base.ExifImageHeight: 90}
    for name, size in (("a", (120, 90)), ("b", (120, 70))):
        store(tmp_path / f"{name}.jpg", {}, {ExifTags.Base.FocalLengthIn35mmFilm: 26, **stored}, size)
    whole, cropped = taken_in(tmp_path, tmp_path).photos
    assert whole.focal is not None
    assert cropped.focal is None


def test_orientation_stands_photos_upright_and_keeps_their_camera(tmp_path):
    store(tmp_path / "a.jpg", {ExifTags.Base.Orientation: 6}, {ExifTags.Base.FocalLengthIn35mmFilm: 26})
    store(tmp_path / "b.jpg", {ExifTags.Base.Orientation: 1}, {ExifTags.Base.FocalLengthIn35mmFilm: 26})
    store(tmp_path / "c.jpg", {}, {ExifTags.Base.FocalLengthIn35mmFilm: 52})
    upright, lying, zoomed = taken_in(tmp_path, tmp_path).photos
    assert upright.size == (90, 120) and upright.pixels().shape == (120, 90, 3)
    assert upright.camera == lying.camera != zoomed.camera
