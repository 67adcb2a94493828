"""From a path to a capture: what may be given, what other tools write, and what must be converted first."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from other_captures import as_blender
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.read_capture import is_capture, read_capture

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture
def frames(tiny_room):
    return read_capture(tiny_room).frames


def cameras_of(frames):
    return {frame.photo.name: (frame.c2w, frame.K, frame.size) for frame in frames}


def same_cameras(found, expected):
    found, expected = cameras_of(found), cameras_of(expected)
    assert found.keys() == expected.keys()
    for name, (c2w, K, size) in expected.items():
        np.testing.assert_allclose(found[name][0], c2w, atol=1e-9)
        np.testing.assert_allclose(found[name][1], K, atol=1e-9)
        assert found[name][2] == size


@pytest.mark.parametrize(
    "given",
    [str, lambda path: f"{path}/", lambda path: f"{path}/../{path.name}", lambda path: f"{path}/transforms.json"],
)
def test_a_capture_may_be_given_in_several_ways(capture, frames, given):
    same_cameras(read_capture(Path(given(capture))).frames, frames)


def test_a_relative_path_is_read(capture, frames, monkeypatch):
    monkeypatch.chdir(capture)
    same_cameras(read_capture(Path()).frames, frames)


def test_blenders_captures_are_read_with_their_splits(tiny_room, tmp_path):
    expected = read_capture(tiny_room)
    folder = as_blender(tiny_room, tmp_path / "capture")
    for path in (folder, folder / "transforms_train.json"):
        files = read_capture(path)
        assert [len(files.split(split)) for split in ("all", "train", "val", "test")] == [8, 4, 2, 2]
        for i, j in zip(files.split("train"), expected.split("train"), strict=True):
            np.testing.assert_allclose(files.frames[i].c2w, expected.frames[j].c2w, atol=1e-9)
            np.testing.assert_allclose(files.frames[i].K[0, 0], expected.frames[j].K[0, 0])


def as_polycam(room, folder, kind):
    """A raw export: world with y up, one JSON a photo; corrected cameras beside uncorrected ones."""
    meta = json.loads((room / "transforms.json").read_text())
    keyframes = folder / "keyframes"
    for name in ("images", "cameras", f"{kind}images", f"{kind}cameras", "depth"):
        (keyframes / name).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(meta["frames"]):
        pose = np.array(frame["transform_matrix"])[[1, 2, 0]]  # rows of the world with y up
        camera = {"fx": meta["fl_x"], "fy": meta["fl_y"], "cx": meta["cx"], "cy": meta["cy"]}
        camera |= {"width": meta["w"], "height": meta["h"], "blur_score": 90.0}
        camera |= {f"t_{row}{column}": pose[row, column] for row in range(3) for column in range(4)}
        (keyframes / f"{kind}cameras" / f"{number}.json").write_text(json.dumps(camera))
        image = Image.open(room / frame["file_path"]).convert("RGB")
        image.save(keyframes / f"{kind}images" / f"{number}.jpg", quality=95)
        shutil.copy(room / frame["depth_file_path"], keyframes / "depth" / f"{number}.png")
    return folder


@pytest.mark.parametrize("kind", ["corrected_", ""])
def test_polycams_raw_export_is_read(tiny_room, tmp_path, kind):
    meta = json.loads((tiny_room / "transforms.json").read_text())
    folder = as_polycam(tiny_room, tmp_path / "scan", kind)
    for path in (folder, folder / "keyframes"):
        files = read_capture(path)
        assert len(files.frames) == 6 and all(frame.depth is not None for frame in files.frames)
        for frame in files.frames:
            entry = meta["frames"][int(frame.photo.stem)]
            np.testing.assert_allclose(frame.c2w, np.array(entry["transform_matrix"]) @ OPENGL, atol=1e-12)
            assert frame.photo.parent.name == f"{kind}images" and frame.K[0, 0] == meta["fl_x"]


def as_opensfm(frames, points, lens, distortion):
    """A reconstruction as OpenSfM writes it: lengths in longer sides of the photo, rotation vectors."""
    K, (width, height) = frames[0].K, frames[0].size
    longest = max(width, height)
    if lens == "perspective":
        camera = {"focal": K[0, 0] / longest}
    else:
        middle = K[:2, 2] - 0.5 * np.array([width, height])
        camera = {"focal_x": K[0, 0] / longest, "focal_y": K[1, 1] / longest}
        camera |= {"c_x": middle[0] / longest, "c_y": middle[1] / longest}
    camera |= {"projection_type": lens, "width": 4 * width, "height": 4 * height, **distortion}
    shots = {}
    for frame in frames:
        w2c = np.linalg.inv(frame.c2w)
        rotation = cv2.Rodrigues(w2c[:3, :3])[0][:, 0].tolist()
        shots[frame.photo.name] = {"rotation": rotation, "translation": w2c[:3, 3].tolist(), "camera": "phone"}
    cloud = {
        str(i): {"coordinates": xyz, "color": [255 * c for c in rgb]}
        for i, (xyz, rgb) in enumerate(zip(points.xyz.tolist(), points.rgb.tolist(), strict=True))
    }
    return {"cameras": {"phone": camera}, "shots": shots, "points": cloud}


@pytest.mark.parametrize("place", ["reconstruction.json", "opensfm/reconstruction.json"])
@pytest.mark.parametrize(
    ("lens", "distortion"),
    [
        ("perspective", {"k1": 0.0, "k2": 0.0}),
        ("brown", {"k1": 0.1, "k2": -0.02, "p1": 0.001, "p2": 0.002, "k3": 0.003}),
    ],
)
def test_opensfms_reconstruction_is_read(tiny_room, tmp_path, frames, lens, distortion, place):
    points = read_capture(tiny_room).points
    largest = as_opensfm(frames, points, lens, distortion)
    small = {**largest, "shots": dict(list(largest["shots"].items())[:1])}
    file = tmp_path / "scan" / place
    file.parent.mkdir(parents=True)
    shutil.copytree(tiny_room / "images", tmp_path / "scan/images")
    file.write_text(json.dumps([small, largest]))
    for path in (tmp_path / "scan", file):
        files = read_capture(path)
        same_cameras(files.frames, frames)
        names = ("k1", "k2", "p1", "p2", "k3")
        assert {frame.distortion for frame in files.frames} == {tuple(distortion.get(name, 0.0) for name in names)}
        np.testing.assert_allclose(files.points.xyz, points.xyz)
        assert any("holds 2 reconstructions: the largest is read" in note for note in files.notes)


@pytest.mark.parametrize(
    "content", ["{", "[]", "[1]", '[{"shots": {}}]', '[{"shots": {"a.png": {}}, "cameras": {}}]', "{}"]
)
def test_opensfms_files_that_are_damaged_are_refused(tmp_path, content):
    (tmp_path / "reconstruction.json").write_text(content)
    with pytest.raises(InputError, match=r"must"):
        read_capture(tmp_path)


def test_a_lens_that_opensfm_can_straighten_is_refused_with_that_command(tiny_room, tmp_path, frames):
    reconstruction = as_opensfm(frames, read_capture(tiny_room).points, "fisheye", {"k1": 0.0, "k2": 0.0})
    shutil.copytree(tiny_room / "images", tmp_path / "images")
    (tmp_path / "reconstruction.json").write_text(json.dumps([reconstruction]))
    with pytest.raises(InputError, match=r"got fisheye\. Undistort it first: opensfm undistort"):
        read_capture(tmp_path)


def metashape(folder):
    (folder / "cameras.xml").write_text('<?xml version="1.0"?>\n<document version="2.0.0">\n <chunk label="Chunk 1">')


def reality_capture(folder):
    (folder / "poses.csv").write_text(
        "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\na.jpg,0,0,0,0,0,0,30\n"
    )


def reality_capture_with_semicolons(folder):
    (folder / "poses.csv").write_text("#cameras 1\n#name;x;y;alt;yaw;pitch;roll\na.jpg;0;0;0;0;0;0\n")


def record3d_export(folder):
    (folder / "rgb").mkdir()
    (folder / "metadata.json").write_text('{"poses": []}')


def record3d_file(folder):
    (folder / "scan.r3d").write_bytes(b"PK")


def polycam_zip(folder):
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        archive.writestr("scan/keyframes/cameras/1.json", "{}")


def zip_of_a_capture(folder):
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        archive.writestr("scan/transforms.json", "{}")


def zip_of_blender(folder):
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        archive.writestr("lego/transforms_train.json", "{}")


def zip_of_opensfm(folder):
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        archive.writestr("reconstruction.json", "[]")


def half_a_model(folder):
    (folder / "images.bin").write_bytes(bytes(8))


OTHER_TOOLS = {
    metashape: ("cameras of Metashape", "ns-process-data metashape --data {folder} --xml {folder}/cameras.xml"),
    reality_capture: (
        "cameras of RealityCapture",
        "ns-process-data realitycapture --data {folder} --csv {folder}/poses.csv",
    ),
    reality_capture_with_semicolons: (
        "cameras of RealityCapture",
        "Export it with commas between the columns. Convert it: ns-process-data realitycapture",
    ),
    record3d_export: ("an export of Record3D", "ns-process-data record3d --data {folder} --output-dir CAPTURE"),
    record3d_file: ("a Record3D capture", "ns-process-data record3d --data EXPORT --output-dir CAPTURE"),
    polycam_zip: ("a raw export of Polycam", "unzip {folder}/scan.zip -d CAPTURE, then give --data CAPTURE"),
    zip_of_a_capture: ("a packed capture", "unzip {folder}/scan.zip -d CAPTURE, then give --data CAPTURE"),
    zip_of_blender: ("a packed capture", "unzip {folder}/scan.zip -d CAPTURE, then give --data CAPTURE"),
    zip_of_opensfm: ("a packed capture", "unzip {folder}/scan.zip -d CAPTURE, then give --data CAPTURE"),
    half_a_model: ("half of a COLMAP model", "Copy cameras.bin beside it, or move it away to have poses found anew"),
}


@pytest.mark.parametrize("make", OTHER_TOOLS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("given", ["folder", "file"])
def test_captures_of_other_tools_are_recognised_with_the_command_that_converts_them(tmp_path, make, given):
    make(tmp_path)
    what, command = OTHER_TOOLS[make]
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    with pytest.raises(InputError) as refusal:
        read_capture(tmp_path if given == "folder" else files[0])
    text = str(refusal.value)
    if given == "folder" or make is not record3d_export:
        assert what in text and command.format(folder=tmp_path) in text


def test_an_export_of_record3d_in_a_folder_is_named(tmp_path):
    (tmp_path / "EXR_RGBD").mkdir()
    record3d_export(tmp_path / "EXR_RGBD")
    with pytest.raises(InputError, match=r"record3d --data .*/EXR_RGBD --output-dir CAPTURE"):
        read_capture(tmp_path)


def test_the_photos_of_a_capture_given_alone_lead_to_the_capture(capture):
    with pytest.raises(InputError, match=rf"a part of one\. Give the capture: --data {capture}\."):
        read_capture(capture / "images")


def test_opensfms_poses_are_those_of_the_photos_as_stored(tiny_room, tmp_path, frames):
    """OpenSfM does not turn photos by their EXIF orientation."""
    shutil.copytree(tiny_room / "images", tmp_path / "images")
    exif = Image.Exif()
    exif[0x0112] = 6
    for frame in frames:
        Image.open(frame.photo).convert("RGB").save(tmp_path / "images" / frame.photo.name, exif=exif)
    reconstruction = as_opensfm(frames, read_capture(tiny_room).points, "brown", {})
    (tmp_path / "reconstruction.json").write_text(json.dumps([reconstruction]))
    same_cameras(read_capture(tmp_path).frames, frames)


@pytest.mark.parametrize("kind", ["transforms.json", "transforms_train.json", "reconstruction.json"])
def test_an_unpacked_folder_within_a_folder_is_named(capture, tmp_path, kind):
    shutil.copytree(capture, tmp_path / "download" / "my scan")
    (tmp_path / "download" / "my scan" / "transforms.json").rename(tmp_path / "download" / "my scan" / kind)
    with pytest.raises(InputError, match=r"which holds captures\. Give one of them: --data '.*/download/my scan'"):
        read_capture(tmp_path / "download")


@pytest.mark.parametrize("kind", ["empty", "photos", "text"])
def test_what_is_no_capture_is_refused_with_the_command_that_makes_one(tiny_room, tmp_path, kind):
    path = tmp_path / kind
    if kind == "text":
        path.write_text("a")
    elif kind == "photos":
        shutil.copytree(tiny_room / "images", path)
    else:
        path.mkdir()
    with pytest.raises(
        InputError, match=r"--data must be a capture .*, got .*Make one of photos or a video: fvgen poses"
    ):
        read_capture(path)
    assert not is_capture(path)


def test_a_path_that_is_not_there_names_what_gave_it(tmp_path):
    with pytest.raises(
        InputError, match=r"must exist, got .*--data of ns-train, or the line 'data:' in the config\.yml"
    ):
        read_capture(tmp_path / "nowhere")
