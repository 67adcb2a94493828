"""The folder of views: exact round trip, survival of kills and damage, and that Nerfstudio reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.photos import read_photo
from fvgen.data.transforms_json import read_transforms
from fvgen.files import store
from fvgen.generation.contact_sheet import write_contact_sheet, write_mp4
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.generation.views_folder import DEPTH_STEPS, ViewsWriter, is_complete
from fvgen.generation.views_reading import load_views
from fvgen.geometry.points import read_ply
from fvgen.geometry.similarity import Similarity
from fvgen.geometry.trajectory import clips_of, path_between

MOVED = Similarity(np.array([[0.0, -1, 0, 3], [1, 0, 0, -2], [0, 0, 1, 0.5]]), 0.25)
UNMOVED = Similarity(np.eye(4)[:3], 1.0)


@pytest.fixture
def views(plane):
    capture, geometry = plane
    path = path_between(capture.cameras, range(4), False, 3)
    return VIEW_GENERATORS["warp"]().generate(capture, geometry, path), geometry.points, path


@pytest.fixture
def folder(tmp_path, views):
    made, points, _ = views
    depth_unit = float(made.depth.max()) / MOVED.scale / DEPTH_STEPS
    writer = ViewsWriter(tmp_path / "views", "k", MOVED, depth_unit, {"generator": "warp"})
    for i in range(len(made)):
        put(writer, views, i)
    writer.finish(len(made), points)
    return tmp_path / "views"


def test_round_trip(folder, views):
    made, points, _ = views
    read = load_views(folder)
    step = json.loads((folder / "transforms.json").read_text())["depth_unit_scale_factor"] * MOVED.scale
    torch.testing.assert_close(read.rgb, made.rgb, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(read.pixel_confidence, made.pixel_confidence, atol=0.5 / 255 + 1e-6, rtol=0)
    torch.testing.assert_close(read.depth, made.depth, atol=0.51 * step, rtol=0)
    assert step < 1e-4 * float(made.depth.max())
    torch.testing.assert_close(read.view_confidence, made.view_confidence)
    assert torch.equal(read.is_photo, made.is_photo) and torch.equal(read.covered, made.covered)
    torch.testing.assert_close(read.cameras.c2w, made.cameras.c2w, atol=1e-5, rtol=0)
    torch.testing.assert_close(read.cameras.K, made.cameras.K)
    cloud = read_ply(folder / "dense.ply")
    torch.testing.assert_close(MOVED.points_to_working(cloud.xyz), points.xyz, atol=1e-5, rtol=0)


def test_provenance(folder):
    meta = json.loads((folder / "transforms.json").read_text())
    assert meta["fvgen"]["generator"] == "warp" and meta["fvgen"]["key"] == "k"
    assert np.allclose(meta["fvgen"]["working_from_capture"]["transform"], MOVED.transform)
    for entry in meta["frames"]:
        assert {"photo", "view_confidence"} <= entry["fvgen"].keys()
        for part in ("file_path", "depth_file_path", "confidence_file_path", "covered_file_path"):
            assert (folder / entry[part]).is_file()


def test_nerfstudio_reads_it(folder, views):
    pytest.importorskip("nerfstudio")
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    config = NerfstudioDataParserConfig(
        data=folder, orientation_method="none", center_method="none", auto_scale_poses=False, load_3D_points=False
    )
    outputs = config.setup().get_dataparser_outputs("train")
    made = views[0]
    assert len(outputs.image_filenames) == len(made)
    pose = np.stack([MOVED.pose_to_capture(c2w) for c2w in made.cameras.c2w.double().numpy()])
    assert np.allclose(outputs.cameras.camera_to_worlds.numpy(), (pose @ np.diag([1, -1, -1, 1]))[:, :3], atol=1e-5)
    assert torch.allclose(outputs.cameras.fx[:, 0], made.cameras.K[:, 0, 0])
    assert all(path.is_file() for path in outputs.metadata["depth_filenames"])
    shown = [int(np.prod(Image.open(path).size)) for path in outputs.image_filenames]
    assert shown == (outputs.cameras.width * outputs.cameras.height)[:, 0].tolist()


def test_complete_only_with_the_right_key_and_whole_files(folder):
    assert is_complete(folder, "k")
    assert not is_complete(folder, "other") and not is_complete(folder.parent / "none", "k")
    for name in ("images/00001.png", "depth/00002.png", "confidence/00001.png", "covered/00001.png", "dense.ply"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[:-3])
        assert not is_complete(folder, "k")
        with pytest.raises(InputError, match="hold the files that were written"):
            load_views(folder)
        (folder / name).write_bytes(kept)
        assert is_complete(folder, "k")
    (folder / "transforms.json").write_text((folder / "transforms.json").read_text()[:-20])
    assert not is_complete(folder, "k")
    with pytest.raises(InputError, match="a finished transforms"):
        load_views(folder)


def put(writer: ViewsWriter, views, i: int) -> None:
    v = views[0]
    info = {"photo": bool(v.is_photo[i]), "view_confidence": float(v.view_confidence[i])}
    writer.put_view(i, v.cameras[i], v.rgb[i], v.depth[i, 0], v.pixel_confidence[i, 0], v.covered[i, 0], info)


def test_a_killed_run_goes_on_with_its_finished_frames(tmp_path, views):
    folder = tmp_path / "views"
    first = ViewsWriter(folder, "k", MOVED, 1e-3, {})
    put(first, views, 0)
    put(first, views, 1)
    put(first, views, 2)
    # Killed while frame 2's files were replaced and frame 3 was being written.
    (folder / "images" / "00002.png").write_bytes(b"half")
    (folder / "images" / ".00003.png.unfinished").write_bytes(b"half")
    assert not is_complete(folder, "k")
    again = ViewsWriter(folder, "k", MOVED, 1e-3, {})
    assert [again.has(i) for i in range(4)] == [True, True, False, False]
    assert not list(folder.rglob("*.unfinished"))
    with pytest.raises(InputError, match=r"all be stored.*none for \[3\]"):
        again.finish(4, views[1])
    put(again, views, 2)
    put(again, views, 3)
    again.finish(4, views[1])
    assert is_complete(folder, "k")


def test_frames_of_another_key_are_thrown_away(folder, views):
    files = set(folder.rglob("*.png"))
    writer = ViewsWriter(folder, "new", MOVED, 1e-3, {})
    assert files and not list(folder.rglob("*.png")) and not writer.has(0)
    assert not (folder / "transforms.json").exists()


def test_frames_beyond_the_count_are_removed(tmp_path, views):
    writer = ViewsWriter(tmp_path / "views", "k", MOVED, 1e-3, {})
    for i in range(3):
        put(writer, views, i)
    writer.finish(2, views[1])
    assert sorted(path.name for path in (tmp_path / "views" / "images").iterdir()) == ["00000.png", "00001.png"]
    assert is_complete(tmp_path / "views", "k")


def test_a_users_own_folder_is_never_touched(tmp_path):
    capture = tmp_path / "capture"
    capture.mkdir()
    (capture / "transforms.json").write_text('{"frames": []}')
    (tmp_path / "file").write_text("text")
    stuff = tmp_path / "stuff"
    stuff.mkdir()
    (stuff / "thesis.tex").write_text("...")
    for folder in (capture, stuff, tmp_path / "file"):
        with pytest.raises(InputError, match="views folder must"):
            ViewsWriter(folder, "k", MOVED, 1e-3, {})
    assert (capture / "transforms.json").read_text() == '{"frames": []}' and len(list(stuff.iterdir())) == 1


def test_a_full_disk_is_named_and_leaves_no_half_file(tmp_path, views, monkeypatch):
    writer = ViewsWriter(tmp_path / "views", "k", MOVED, 1e-3, {})
    put(writer, views, 0)

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"room on its disk.*No space left.*finished views are kept"):
        put(writer, views, 1)
    monkeypatch.undo()
    assert writer.has(0) and not writer.has(1)
    assert not list((tmp_path / "views").rglob("*unfinished")) and not (tmp_path / "views/images/00001.png").exists()


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="views folder must be writable"):
        ViewsWriter(tmp_path / "file" / "views", "k", MOVED, 1e-3, {})


@pytest.mark.parametrize("kind", ["plain", "grey", "rotated", "deep"])
def test_photos_are_kept_as_they_are_unless_others_would_misread_them(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    path = tmp_path / f"a photo.{'png' if kind == 'deep' else 'jpg'}"
    image = Image.fromarray(pixels)
    size, exif = (30, 20), Image.Exif()
    if kind == "grey":
        image = image.convert("L")
    if kind == "rotated":
        exif[0x0112] = 6
        size = (20, 30)
    if kind == "deep":
        image = Image.fromarray((pixels[..., 0].astype(np.uint16) << 8) | 5)
    image.save(path, **({"exif": exif} if kind == "rotated" else {}))
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    writer.put_photo(0, path, np.eye(4), np.eye(3), size, (0.0,) * 5, torch.ones(size[1], size[0]), decode=read_photo)
    (stored,) = (tmp_path / "views" / "images").iterdir()
    if kind in ("plain", "grey"):
        assert stored.read_bytes() == path.read_bytes()
    else:
        assert np.array_equal(np.asarray(Image.open(stored)), read_photo(path, size))


def test_depth_of_a_cropped_or_distorted_photo_is_left_out(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    bent = (0.1, 0.0, 0.0, 0.0, 0.0)
    straight = (0.0,) * 5
    for i, (lens, shape) in enumerate(((bent, (20, 30)), (straight, (20, 20)), (straight, (10, 15)))):
        writer.put_photo(
            i, tmp_path / "a.png", np.eye(4), np.eye(3), (30, 20), lens, torch.ones(shape), decode=read_photo
        )
        depth = np.array(Image.open(tmp_path / "views" / "depth" / f"{i:05d}.png"))
        assert depth.shape == ((10, 15) if i == 2 else (20, 30)) and depth.any() == (i == 2)


def test_photos_of_another_shape_are_read_back_cropped_to_the_views(tmp_path, views):
    made, points, _ = views
    height, width = made.rgb.shape[-2:]
    tall = np.zeros((3 * height, width, 3), np.uint8)
    tall[height : 2 * height] = 200
    Image.fromarray(tall).save(tmp_path / "tall.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    K = np.array([[50.0, 0, width / 2], [0, 50, 1.5 * height], [0, 0, 1]])
    lens, size = (0.0,) * 5, (width, 3 * height)
    writer.put_photo(0, tmp_path / "tall.png", np.eye(4), K, size, lens, torch.ones(height, width), decode=read_photo)
    at = int((~made.is_photo).nonzero()[0])
    writer.put_view(
        1, made.cameras[at], made.rgb[at], made.depth[at, 0], made.pixel_confidence[at, 0], made.covered[at, 0], {}
    )
    writer.finish(2, points)
    assert is_complete(tmp_path / "views", "k")
    read = load_views(tmp_path / "views")
    assert read.rgb.shape == (2, 3, height, width)
    torch.testing.assert_close(read.rgb[0], torch.full_like(read.rgb[0], 200 / 255))
    expected = torch.tensor([[50.0, 0, width / 2], [0, 50, height / 2], [0, 0, 1]])
    torch.testing.assert_close(read.cameras.K[0], expected)
    read_transforms(tmp_path / "views")  # as the plugin reads it


def test_store_keeps_the_old_file_when_interrupted(tmp_path, monkeypatch):
    target = tmp_path / "file"
    store(target, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(target, b"new")
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_similarity_inverts_itself():
    c2w = np.eye(4)
    c2w[:3, :3] = MOVED.transform[:, :3] @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    c2w[:3, 3] = [1, 2, 3]
    assert np.allclose(MOVED.pose_to_working(MOVED.pose_to_capture(c2w)), c2w)
    xyz = torch.randn(5, 3)
    torch.testing.assert_close(MOVED.points_to_capture(MOVED.points_to_working(xyz)), xyz.double(), atol=1e-5, rtol=0)


def test_contact_sheet_shows_clips_as_rows_and_outlines_photos(tmp_path, views):
    made, _, path = views
    write_contact_sheet(tmp_path / "sheet.png", made, clips_of(path), tile_width=60)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    cell = (45 + 4, 60 + 4)
    assert sheet.shape == (3 * cell[0], 3 * cell[1], 3)
    edges = sheet[:: cell[0], 1 :: cell[1]][:3, :3]
    photo = (edges == [255, 153, 0]).all(-1)
    assert photo.tolist() == [[True, False, True]] * 3


def test_film(tmp_path, views):
    av = pytest.importorskip("av")
    write_mp4(tmp_path / "film.mp4", views[0].rgb[:, :, :47, :63])
    with av.open(str(tmp_path / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == len(views[0]) and frames[0].shape == (46, 62, 3)
    wanted = 255 * views[0].rgb[0, :, :46, :62].permute(1, 2, 0).numpy()
    assert np.abs(frames[0] - wanted).mean() < 6  # lossy


def test_nothing_to_show_is_refused(tmp_path, views):
    with pytest.raises(InputError, match="not be empty"):
        write_mp4(tmp_path / "film.mp4", views[0].rgb[:0])
    with pytest.raises(InputError, match="not be empty"):
        write_contact_sheet(tmp_path / "sheet.png", views[0], [])
    assert not list(tmp_path.iterdir())
