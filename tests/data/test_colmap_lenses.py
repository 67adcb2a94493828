"""Camera models of COLMAP."""

from __future__ import annotations

import pytest
from colmap_models import same_cameras, write_colmap

from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture

LENSES = {
    "SIMPLE_PINHOLE": ((), (0, 0, 0, 0, 0)),
    "SIMPLE_RADIAL": ((0.1,), (0.1, 0, 0, 0, 0)),
    "RADIAL": ((0.1, -0.02), (0.1, -0.02, 0, 0, 0)),
    "FULL_OPENCV": ((0.1, -0.02, 0.001, 0.002, 0.003, 0, 0, 0), (0.1, -0.02, 0.001, 0.002, 0.003)),
}


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("lens", LENSES)
def test_lenses_that_opencv_can_straighten_are_read(photos, frames, lens, text):
    more, expected = LENSES[lens]
    write_colmap(photos / "sparse/0", frames, lenses=((lens, more),), text=text)
    assert {frame.distortion for frame in read_capture(photos).frames} == {expected}


OTHER_LENSES = {
    "OPENCV_FISHEYE": (0,) * 4, "FULL_OPENCV": (0.1, 0, 0, 0, 0, 0.1, 0, 0), "FOV": (0.5,),
    "SIMPLE_RADIAL_FISHEYE": (0,),
    "RADIAL_FISHEYE": (0, 0), "THIN_PRISM_FISHEYE": (0,) * 8, "RAD_TAN_THIN_PRISM_FISHEYE": (0,) * 12,
    "SIMPLE_DIVISION": (0.1,), "DIVISION": (0.1,), "SIMPLE_FISHEYE": (), "FISHEYE": (), "EUCM": (0.5, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("lens", OTHER_LENSES)
def test_other_lenses_are_refused_by_their_names_with_a_cure_that_ends_in_a_capture(photos, frames, lens, text):
    model = write_colmap(photos / "sparse/0", frames, lenses=((lens, OTHER_LENSES[lens]),), text=text)
    with pytest.raises(InputError) as refusal:
        read_capture(photos)
    assert f"got {lens}" in str(refusal.value)
    command = f"colmap image_undistorter --image_path {photos / 'images'} --input_path {model} --output_path OUT"
    assert f"{command}, then give --data OUT." in str(refusal.value)


def test_a_panorama_is_refused_by_its_name(photos, frames):
    model = write_colmap(photos / "sparse/0", frames, text=True)
    (model / "cameras.txt").write_text("1 EQUIRECTANGULAR 96 64 96 64\n")
    with pytest.raises(InputError, match=r"got EQUIRECTANGULAR\. Cut it into perspective photos"):
        read_capture(photos)


def test_a_camera_model_of_another_colmap_is_refused_by_its_number(photos, frames):
    model = write_colmap(photos / "sparse/0", frames)
    content = bytearray((model / "cameras.bin").read_bytes())
    content[12:16] = (99).to_bytes(4, "little")
    (model / "cameras.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"number 99.*colmap image_undistorter"):
        read_capture(photos)


def test_one_fisheye_among_pinholes_is_left_out(photos, frames, points):
    write_colmap(photos / "sparse/0", frames, points, lenses=(("OPENCV_FISHEYE", (0,) * 4), ("PINHOLE", ())))
    files = read_capture(photos)
    same_cameras(files.frames, frames[1:])
    (note,) = files.notes
    assert note.startswith(f"Left out: images/{frames[0].photo.name}: the lens of ") and "OPENCV_FISHEYE" in note
