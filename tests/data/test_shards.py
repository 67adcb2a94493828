"""Shards: written whole, read at random, damaged ones named."""

from __future__ import annotations

import json
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from clip_scenes import SCENES, FakeScene, clip_and_geometry, same

from fvgen.checks import InputError
from fvgen.data import shards
from fvgen.data.clip_encodings import PixelEncoding, View
from fvgen.data.precompute import precompute
from fvgen.data.shards import INDEX, ShardDataset, write_index, write_shard
from fvgen.files import write_json
from fvgen.procedural.clips.clip import ClipLayout

WHOLE = View(False, False, 0, 0, 32, 48)


def test_pixels_come_back_through_the_residual_space():
    clip, geometry = clip_and_geometry(1)
    encoding = PixelEncoding()
    images, warped = encoding.read(encoding.encode(clip, geometry).content, WHOLE)
    torch.testing.assert_close(images[0], clip.frames, atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(warped.photo[0], clip.known)
    assert torch.equal(warped.warp[0, clip.known], images[0, clip.known])
    batch = encoding.decode(encoding.encode(clip, geometry).content, WHOLE)
    again = encoding.space.decode(batch.latents, warped, encoding.codec)
    torch.testing.assert_close(again, images, atol=1e-5, rtol=0)
    assert not bool(batch.latents[0, clip.known].any())


def test_batches_by_number(shard_set):
    dataset = ShardDataset(shard_set)
    assert len(dataset) == 5
    batch = dataset.batch([4, 0])
    meta = dataset.meta
    assert batch.latents.shape == (2, 3, meta["latent_channels"], 8, 12) and batch.latents.dtype == torch.float32
    assert batch.conditions.render_latents.shape == (2, 3, meta["condition_channels"], 8, 12)
    assert batch.conditions.tokens.shape == (2, meta["tokens"], meta["context_dim"])
    assert batch.conditions.fps.tolist() == [meta["fps"]] * 2
    assert torch.equal(batch.latents[1:], dataset.batch([0]).latents)
    clip, geometry = clip_and_geometry(5)
    encoding = PixelEncoding()
    assert same(dataset.batch([4]), encoding.decode(encoding.encode(clip, geometry).content, WHOLE))


def test_shards_are_plain_tars_of_one_member_per_clip(shard_set):
    with tarfile.open(shard_set / "a.tar") as tar:
        assert tar.getnames() == ["000000001.npz", "000000002.npz"]  # WebDataset: key, extension
        member = tar.extractfile("000000001.npz")
        assert member is not None
        with np.load(member) as stored:
            assert stored["frames"].shape == (3, 3, 32, 48)


def test_a_number_out_of_range_is_refused(shard_set):
    with pytest.raises(InputError, match="keys must be numbers from 0 to 4"):
        ShardDataset(shard_set).batch([5])
    with pytest.raises(InputError, match="keys must be numbers"):
        ShardDataset(shard_set).batch([])


def test_no_index(tmp_path):
    with pytest.raises(InputError, match=r"hold a readable index.json, got none.*fvgen clips"):
        ShardDataset(tmp_path)


def test_an_index_without_clips_or_of_another_format(shard_set_copy):
    index = json.loads((shard_set_copy / INDEX).read_text())
    (shard_set_copy / INDEX).write_text(json.dumps(index | {"shards": []}))
    with pytest.raises(InputError, match="hold clips, got none"):
        ShardDataset(shard_set_copy)
    (shard_set_copy / INDEX).write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(InputError, match="have format 1, got 99"):
        ShardDataset(shard_set_copy)


def test_damaged_shards_are_named(shard_set_copy):
    path = shard_set_copy / "b.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.tar must have the checksum"):
        ShardDataset(shard_set_copy)
    assert len(ShardDataset(shard_set_copy, check=False)) == 5
    path.write_bytes(content[:-512])
    with pytest.raises(InputError, match=r"b\.tar must have \d+ bytes"):
        ShardDataset(shard_set_copy, check=False)
    path.unlink()
    with pytest.raises(InputError, match=r"b\.tar must be there"):
        ShardDataset(shard_set_copy, check=False)


def test_swapped_shards_are_named(shard_set_copy):
    (shard_set_copy / "a.tar").rename(shard_set_copy / "x")
    (shard_set_copy / "c.tar").rename(shard_set_copy / "a.tar")
    (shard_set_copy / "x").rename(shard_set_copy / "c.tar")
    with pytest.raises(InputError, match=r"a\.tar must have"):
        ShardDataset(shard_set_copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["shards"][1]["samples"][0].update(offset=0), "list where the clips of .*b.tar lie"),
        (lambda index: index["shards"][1]["samples"][0].update(key="z"), "list where the clips of .*b.tar lie"),
        (lambda index: index["shards"][1].update(sha256="0" * 64), "b.tar must have the checksum 000000000000"),
        (lambda index: index["shards"][1].update(name="q.tar"), "q.tar must be there"),
        (lambda index: index["shards"][1].pop("bytes"), "index.json must be as written, got .*bytes"),
        (lambda index: index.update(shards=3), "index.json must be as written"),
        (lambda index: index.pop("config_hash"), "index.json must be as written"),
        (lambda index: index["meta"].update(frames=9), "index.json must be as written, with the hash"),
    ],
)
def test_an_index_that_was_edited(shard_set_copy, change, message):
    index = json.loads((shard_set_copy / INDEX).read_text())
    change(index)
    (shard_set_copy / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        ShardDataset(shard_set_copy)
    summary = precompute(SCENES, PixelEncoding(), shard_set_copy, {"frames": 3, "height": 32, "width": 48})
    assert summary.kept == 3 and len(ShardDataset(shard_set_copy)) == 5  # the index is written anew


def test_long_names(tmp_path):
    """DL3DV-10K's scenes are called by 64 letters; ustar headers end at 100."""
    name = "1K_" + 64 * "a" + "_nerfstudio_" + 60 * "b"
    clip, geometry = clip_and_geometry(1)
    one = replace(PixelEncoding().encode(clip, geometry), key=f"{name}_000")
    meta = PixelEncoding().meta
    write_shard(tmp_path, name, [one], meta)
    write_index(tmp_path, meta)
    assert len(ShardDataset(tmp_path)) == 1
    with tarfile.open(tmp_path / f"{name}.tar") as tar:
        assert tar.getnames() == [f"{name}_000.npz"]


def test_views_are_the_same_at_every_reading_and_different_from_each_other(shard_set):
    dataset = ShardDataset(shard_set, views=4, crop=(16, 16))
    assert len(dataset) == 20
    batches = [dataset.batch([1 + 5 * view]) for view in range(4)]
    assert batches[0].latents.shape[-2:] == (4, 4)
    assert all(same(batches[view], dataset.batch([1 + 5 * view])) for view in range(4))
    assert not any(same(batches[0], batches[view]) for view in range(1, 4))


def test_mirrored_and_backwards_views():
    clip, geometry = clip_and_geometry(2)
    encoding = PixelEncoding()
    content = encoding.encode(clip, geometry).content
    images, warped = encoding.read(content, WHOLE)
    turned, other = encoding.read(content, View(True, False, 0, 0, 32, 48))
    assert torch.equal(turned, images.flip(-1)) and torch.equal(other.covered, warped.covered.flip(-1))
    turned, other = encoding.read(content, View(False, True, 0, 0, 32, 48))
    if bool(clip.known[-1]):
        assert torch.equal(turned, images.flip(1)) and torch.equal(other.confidence, warped.confidence.flip(1))
    else:  # a window that ends before a photo has no mirror image in time
        assert torch.equal(turned, images)


def test_clips_of_several_sizes_need_a_crop(tmp_path):
    scenes = [FakeScene("wide", (1,)), FakeScene("tall", (2,), ClipLayout(3, 48, 32))]
    precompute(scenes, PixelEncoding(), tmp_path, {"frames": 3})
    with pytest.raises(InputError, match="crop must be given for clips of several sizes"):
        ShardDataset(tmp_path)
    with pytest.raises(InputError, match=r"crop must be multiples of 4 up to \(32, 32\)"):
        ShardDataset(tmp_path, crop=(40, 32))
    assert ShardDataset(tmp_path, crop=(32, 32)).batch([0, 1]).latents.shape == (2, 3, 48, 8, 8)


def test_a_scene_without_clips_is_refused(tmp_path):
    with pytest.raises(InputError, match="x must give a clip"):
        write_shard(tmp_path, "x", [], {})


def test_processes_write_the_index_at_the_same_time(shard_set, tmp_path):
    """Whatever the order, the last index knows all scenes: two threads write it again and again as scenes appear."""
    parts = sorted(shard_set.glob("*.part.json"))
    meta = ShardDataset(shard_set).meta
    done = threading.Event()

    def other():
        while not done.is_set():
            write_index(tmp_path, meta)

    thread = threading.Thread(target=other)
    thread.start()
    for path in parts:
        (tmp_path / path.name).write_bytes(path.read_bytes())
        write_index(tmp_path, meta)
    done.set()
    thread.join()
    assert len(json.loads((tmp_path / INDEX).read_text())["shards"]) == len(parts)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_the_index_knows_a_scene_that_is_made_anew_while_it_is_written(shard_set, tmp_path, monkeypatch):
    parts = sorted(shard_set.glob("*.part.json"))
    for path in parts:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    anew = tmp_path / parts[-1].name
    anew.write_text("{}")  # as other settings left it

    def write_while_another_works(path, value):
        write_json(path, value)
        anew.write_bytes(parts[-1].read_bytes())

    monkeypatch.setattr(shards, "write_json", write_while_another_works)
    write_index(tmp_path, ShardDataset(shard_set).meta)
    assert len(json.loads((tmp_path / INDEX).read_text())["shards"]) == len(parts)
