"""Clips cut from posed captures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.data.clips import CaptureScene
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.cameras import project
from fvgen.geometry.provider import GEOMETRY_PROVIDERS

MEASURED = GEOMETRY_PROVIDERS["capture-depth"]()


def scene(folder, **changed) -> CaptureScene:
    settings = {
        "provider": MEASURED,
        "clips_per_scene": 2,
        "frames": 4,
        "height": 48,
        "width": 64,
        "root": folder.parent,
    }
    return CaptureScene(folder, **settings | changed)


def test_clips_have_the_captures_own_frames(tiny_room):
    for clip, geometry in scene(tiny_room).clips():
        assert clip.frames.shape == (4, 3, 48, 64) and clip.capture.photos.shape == (2, 3, 48, 64)
        assert clip.known.tolist() == [True, False, False, True] and clip.path.photo.tolist() == [0, -1, -1, 1]
        assert torch.equal(clip.frames[[0, -1]], clip.capture.photos)
        assert geometry.depths.shape == (2, 48, 64) and len(geometry.points) > 0


def test_cameras_follow_the_crop(tiny_room):
    """3:2 photos become 4:3: a world point lies at the same place of the picture, less the strip that is cut off."""
    whole, _ = load_capture(tiny_room, long_side=96, split="all")
    clip, _ = next(scene(tiny_room).clips())
    near = (clip.path.cameras.positions[0] - whole.cameras.positions).norm(dim=1).argmin()
    ahead = whole.cameras.c2w[near, :3, 3] + whole.cameras.c2w[near, :3, :3] @ torch.tensor([0.1, 0.2, 3.0])
    before, _ = project(ahead[None], whole.cameras[int(near)])
    after, _ = project(ahead[None], clip.path.cameras[0])
    expected = (before[0, 0] * 0.75) - torch.tensor([4.0, 0.0])
    torch.testing.assert_close(after[0, 0], expected, atol=1e-3, rtol=0)


def test_the_same_clips_every_time_and_others_with_another_seed(tiny_room):
    first, again = ([clip.frames for clip, _ in scene(tiny_room, seed=0).clips()] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    names = [clip.name for clip, _ in scene(tiny_room).clips()]
    assert names == ["room_000", "room_001"]
    starts = {
        tuple(next(scene(tiny_room, seed=s, frames=3).clips())[0].path.cameras.positions[0].tolist()) for s in range(8)
    }
    assert len(starts) > 1


def test_portrait_captures_give_clips_turned_on_their_side(capture):
    path = capture / "transforms.json"
    meta = json.loads(path.read_text())
    from PIL import Image

    for frame in meta["frames"]:
        for name in ("file_path", "depth_file_path"):
            with Image.open(capture / frame[name]) as image:
                turned = image.transpose(Image.Transpose.ROTATE_90)
            turned.save(capture / frame[name])
    meta["w"], meta["h"], meta["cx"], meta["cy"] = meta["h"], meta["w"], meta["cy"], meta["cx"]
    path.write_text(json.dumps(meta))
    provider = GEOMETRY_PROVIDERS["capture-depth"](agreement=1e9, edge_jump=1e9)  # the poses do not fit any more
    clip, _ = next(scene(capture, provider=provider, height=40, width=56).clips())
    assert clip.frames.shape[2:] == (56, 40)


def test_captures_that_cannot_be_used(tiny_room, tmp_path):
    with pytest.raises(InputError, match="have at least 9 photos, got 6"):
        next(scene(tiny_room, frames=9).clips())
    with pytest.raises(InputError, match="be 256x160 pixels or larger, got 96x64"):
        next(scene(tiny_room, height=160, width=256).clips())
    with pytest.raises(InputError):
        next(scene(tmp_path).clips())


def test_no_clip_twice_and_every_stride(tiny_room):
    clips = [clip for clip, _ in scene(tiny_room, frames=3, clips_per_scene=50).clips()]
    positions = {tuple(clip.path.cameras.positions.flatten().tolist()) for clip in clips}
    assert len(positions) == len(clips) == 4 + 2  # 6 photos: four starts at stride 1, two at stride 2


def test_photos_follow_each_other_as_they_were_counted(capture):
    path = capture / "transforms.json"
    meta = json.loads(path.read_text())
    names = {}
    for number, frame in zip((8, 9, 10, 11, 100, 101), meta["frames"], strict=True):
        old, frame["file_path"] = frame["file_path"], f"images/IMG_{number}.png"
        names[old] = frame["file_path"]
        (capture / old).rename(capture / frame["file_path"])
    for split in ("train", "val", "test"):
        meta[f"{split}_filenames"] = [names[name] for name in meta[f"{split}_filenames"]]
    path.write_text(json.dumps(meta))
    clip, _ = next(scene(capture, frames=6, clips_per_scene=1).clips())
    expected = np.array([frame["transform_matrix"] for frame in meta["frames"]])[:, :3, 3]
    np.testing.assert_allclose(clip.path.cameras.positions.numpy(), expected, atol=1e-6)


def test_names_fit_every_file_system(tmp_path):
    long = tmp_path / ("é" * 100) / ("b" * 100)
    names = {scene(path, root=tmp_path).name for path in (long, long.with_name("b" * 101))}
    assert len(names) == 2 and all(len(name.encode()) < 170 for name in names)
    assert scene(tmp_path / "my room.v2", root=tmp_path / "my room.v2").name == "my_room_v2"  # a key has no dots


def shrunken(capture, folder, **description):
    """The capture with half-size photos in ``folder`` alone; transforms.json still speaks of the full size."""
    from PIL import Image

    (capture / "images").rename(capture / "full")
    (capture / folder).mkdir()
    for path in (capture / "full").iterdir():
        with Image.open(path) as image:
            image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX).save(capture / folder / path.name)
    path = capture / "transforms.json"
    meta = json.loads(path.read_text()) | description
    for frame in meta["frames"]:
        del frame["depth_file_path"]
    return path, meta


def test_file_paths_that_name_the_copies_or_other_copies(capture):
    before = read_capture(capture).frames
    path, meta = shrunken(capture, "images_4")
    for named in ("images_4/", "images_8/", "images_2/"):
        text = json.dumps(meta).replace("images/", named)
        path.write_text(text)
        for large, small in zip(before, read_capture(capture).frames, strict=True):
            assert small.photo.parent.name == "images_4" and small.size == (48, 32)
            np.testing.assert_allclose(small.K[:2], large.K[:2] / 2)


def test_copies_of_another_shape_or_in_no_folder_of_copies_are_refused(capture):
    path, meta = shrunken(capture, "images_4", w=120)
    path.write_text(json.dumps(meta))
    with pytest.raises(InputError, match="be 120x64 pixels as its intrinsics say, got 48x32"):
        read_capture(capture)
    (capture / "images_4").rename(capture / "images")
    path.write_text(json.dumps(meta | {"w": 96}))
    with pytest.raises(InputError, match="be 96x64 pixels as its intrinsics say, got 48x32"):
        read_capture(capture)


def test_captures_that_come_in_a_smaller_size_only(capture):
    """As DL3DV-10K: transforms.json speaks of images/ at full size, the folder holds images_2/ alone."""
    from PIL import Image

    before = read_capture(capture).frames
    (capture / "images").rename(capture / "images_2")
    for path in (capture / "images_2").iterdir():
        with Image.open(path) as image:
            small = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        small.save(path)
    path = capture / "transforms.json"
    meta = json.loads(path.read_text())
    for frame in meta["frames"]:
        del frame["depth_file_path"]
    path.write_text(json.dumps(meta))
    for large, small in zip(before, read_capture(capture).frames, strict=True):
        assert small.name == large.name and small.photo.parent.name == "images_2" and small.size == (48, 32)
        np.testing.assert_allclose(small.K[:2], large.K[:2] / 2)
