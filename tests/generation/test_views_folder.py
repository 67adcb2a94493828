"""The folder of views: exact round trip, survival of kills and damage, and that Nerfstudio reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fvgen import files
from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture
from fvgen.files import sha256, store
from fvgen.generation.stored_photo import StoredPhoto
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.generation.views_folder import DEPTH_STEPS, ViewsWriter, is_complete
from fvgen.generation.views_reading import load_views
from fvgen.geometry.points import read_ply
from fvgen.geometry.similarity import Similarity
from fvgen.geometry.trajectory import path_between
from fvgen.pictures import png

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
    with pytest.raises(InputError, match=r"room on its disk.*No space left.*Finished views are kept"):
        put(writer, views, 1)
    monkeypatch.undo()
    assert writer.has(0) and not writer.has(1)
    assert not list((tmp_path / "views").rglob("*unfinished")) and not (tmp_path / "views/images/00001.png").exists()


def test_a_place_where_no_folder_can_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="views folder must be writable"):
        ViewsWriter(tmp_path / "file" / "views", "k", MOVED, 1e-3, {})


def photo(path, size, K=None, **more) -> StoredPhoto:
    K = np.diag([30.0, 30.0, 1.0]) if K is None else K
    return StoredPhoto(path.name, path, np.eye(4), K, size, **more)


def test_a_photo_is_kept_byte_for_byte_or_as_the_given_png(tmp_path):
    Image.new("RGB", (30, 20), (9, 99, 199)).save(tmp_path / "a photo.JPG", "JPEG")
    kept = photo(tmp_path / "a photo.JPG", (30, 20))
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    writer.put_photo(0, kept, torch.ones(20, 30))
    writer.put_photo(1, replace(kept, content=png(np.full((20, 30, 3), 7, np.uint8))), torch.ones(20, 30))
    first, second = sorted((tmp_path / "views" / "images").iterdir())
    assert first.name == "00000_a photo.jpg" and first.read_bytes() == kept.content.read_bytes()
    assert second.name == "00001_a photo.png" and (np.asarray(Image.open(second)) == 7).all()


def test_depth_of_a_cropped_or_distorted_photo_is_left_out(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    bent = (0.1, 0.0, 0.0, 0.0, 0.0)
    straight = (0.0,) * 5
    for i, (lens, shape) in enumerate(((bent, (20, 30)), (straight, (20, 20)), (straight, (10, 15)))):
        writer.put_photo(i, photo(tmp_path / "a.png", (30, 20), distortion=lens), torch.ones(shape))
        depth = np.array(Image.open(tmp_path / "views" / "depth" / f"{i:05d}.png"))
        assert depth.shape == ((10, 15) if i == 2 else (20, 30)) and depth.any() == (i == 2)


def test_held_out_photos_are_listed_for_comparison_alone(tmp_path, views):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    for i in range(2):
        put(writer, views, i)
    writer.put_photo(2, photo(tmp_path / "a.png", (30, 20)), None, held_out=True)
    writer.finish(3, views[1])
    meta = json.loads((tmp_path / "views/transforms.json").read_text())
    assert meta["test_filenames"] == meta["val_filenames"] == ["images/00002_a.png"]
    assert meta["train_filenames"] == [frame["file_path"] for frame in meta["frames"][:2]]
    assert is_complete(tmp_path / "views", "k") and len(load_views(tmp_path / "views")) == 2
    read_capture(tmp_path / "views")


def test_masks_are_written_for_all_frames_as_soon_as_one_has_some(tmp_path, views):
    made, points, _ = views
    height, width = made.rgb.shape[-2:]
    mask = np.arange(30 * 20).reshape(20, 30) % 3 > 0
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    writer.put_photo(0, photo(tmp_path / "a.png", (30, 20), mask=mask), None)
    put(writer, views, 1)
    writer.finish(2, points)
    frames = json.loads((tmp_path / "views/transforms.json").read_text())["frames"]
    first, second = (np.asarray(Image.open(tmp_path / "views" / frame["mask_path"])) for frame in frames)
    assert np.array_equal(first, 255 * mask.astype(np.uint8))
    assert second.shape == (height, width) and (second == 255).all()
    assert is_complete(tmp_path / "views", "k")
    (tmp_path / "views" / frames[1]["mask_path"]).unlink()
    assert not is_complete(tmp_path / "views", "k")


def test_a_second_writer_leaves_alone_what_the_first_is_writing(tmp_path, views, monkeypatch):
    first = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    put(first, views, 0)
    names = []

    def interrupted(path):
        if not names:
            names.append(path)
            ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
        return sha256(path)

    monkeypatch.setattr(files, "sha256", interrupted)
    put(first, views, 1)
    assert names and first.has(0) and first.has(1)


def test_photos_of_another_shape_are_read_back_cropped_to_the_views(tmp_path, views):
    made, points, _ = views
    height, width = made.rgb.shape[-2:]
    tall = np.zeros((3 * height, width, 3), np.uint8)
    tall[height : 2 * height] = 200
    Image.fromarray(tall).save(tmp_path / "tall.png")
    writer = ViewsWriter(tmp_path / "views", "k", UNMOVED, 1e-3, {})
    K = np.array([[50.0, 0, width / 2], [0, 50, 1.5 * height], [0, 0, 1]])
    writer.put_photo(0, photo(tmp_path / "tall.png", (width, 3 * height), K), torch.ones(height, width))
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
    read_capture(tmp_path / "views")  # as the plugin reads it


def test_store_keeps_the_old_file_when_interrupted(tmp_path, monkeypatch):
    target = tmp_path / "file"
    store(target, b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(target, b"new")
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
