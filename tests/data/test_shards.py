"""Shards: written whole, read at random, damaged ones named."""

from __future__ import annotations

import json
import tarfile
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.clip import TrainBatch
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.data import shards
from fvgen.data.clip_encodings import LatentEncoding, PixelEncoding, View
from fvgen.data.precompute import parse_part, precompute
from fvgen.data.shards import INDEX, ShardDataset, write_index, write_shard
from fvgen.files import write_json
from fvgen.models.codec import SpaceToDepth, SpaceToDepthCodec
from fvgen.procedural.clips.clip import ClipLayout, procedural_clip, procedural_geometry

LAYOUT = ClipLayout(frames=3, height=32, width=48)
WHOLE = View(False, False, 0, 0, 32, 48)


def clip_and_geometry(seed, layout=LAYOUT):
    clip, depths = procedural_clip(seed, layout)
    return clip, procedural_geometry(clip, depths, seed)


@dataclass
class FakeScene:
    name: str
    seeds: tuple[int, ...]
    layout: ClipLayout = LAYOUT
    error: Exception | None = None

    @property
    def count(self):
        return len(self.seeds)

    def clips(self):
        for seed in self.seeds:
            if self.error is not None:
                raise self.error
            yield clip_and_geometry(seed, self.layout)


SCENES = [FakeScene("a", (1, 2)), FakeScene("b", (3,)), FakeScene("c", (4, 5))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    precompute(SCENES, PixelEncoding(), folder, {"frames": 3, "height": 32, "width": 48})
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def same(a: TrainBatch, b: TrainBatch) -> bool:
    return torch.equal(a.latents, b.latents) and torch.equal(a.conditions.render_latents, b.conditions.render_latents)


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


def test_batches_by_number(folder):
    dataset = ShardDataset(folder)
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


def test_shards_are_plain_tars_of_one_member_per_clip(folder):
    with tarfile.open(folder / "a.tar") as tar:
        assert tar.getnames() == ["000000001.npz", "000000002.npz"]  # WebDataset: key, extension
        member = tar.extractfile("000000001.npz")
        assert member is not None
        with np.load(member) as stored:
            assert stored["frames"].shape == (3, 3, 32, 48)


def test_a_number_out_of_range_is_refused(folder):
    with pytest.raises(InputError, match="keys must be numbers from 0 to 4"):
        ShardDataset(folder).batch([5])
    with pytest.raises(InputError, match="keys must be numbers"):
        ShardDataset(folder).batch([])


def test_no_index(tmp_path):
    with pytest.raises(InputError, match=r"hold a readable index.json, got none.*fvgen clips"):
        ShardDataset(tmp_path)


def test_an_index_without_clips_or_of_another_format(copy):
    index = json.loads((copy / INDEX).read_text())
    (copy / INDEX).write_text(json.dumps(index | {"shards": []}))
    with pytest.raises(InputError, match="hold clips, got none"):
        ShardDataset(copy)
    (copy / INDEX).write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(InputError, match="have format 1, got 99"):
        ShardDataset(copy)


def test_damaged_shards_are_named(copy):
    path = copy / "b.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.tar must have the checksum"):
        ShardDataset(copy)
    assert len(ShardDataset(copy, check=False)) == 5
    path.write_bytes(content[:-512])
    with pytest.raises(InputError, match=r"b\.tar must have \d+ bytes"):
        ShardDataset(copy, check=False)
    path.unlink()
    with pytest.raises(InputError, match=r"b\.tar must be there"):
        ShardDataset(copy, check=False)


def test_swapped_shards_are_named(copy):
    (copy / "a.tar").rename(copy / "x")
    (copy / "c.tar").rename(copy / "a.tar")
    (copy / "x").rename(copy / "c.tar")
    with pytest.raises(InputError, match=r"a\.tar must have"):
        ShardDataset(copy)


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
def test_an_index_that_was_edited(copy, change, message):
    index = json.loads((copy / INDEX).read_text())
    change(index)
    (copy / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        ShardDataset(copy)
    summary = precompute(SCENES, PixelEncoding(), copy, {"frames": 3, "height": 32, "width": 48})
    assert summary.kept == 3 and len(ShardDataset(copy)) == 5  # the index is written anew


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


def test_views_are_the_same_at_every_reading_and_different_from_each_other(folder):
    dataset = ShardDataset(folder, views=4, crop=(16, 16))
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


def test_two_parts_make_the_same_set_as_one(folder, tmp_path):
    for part in ((1, 2), (0, 2)):
        precompute(SCENES, PixelEncoding(), tmp_path, {"frames": 3, "height": 32, "width": 48}, part)
    one, two = ShardDataset(folder), ShardDataset(tmp_path)
    assert one.config_hash == two.config_hash and len(one) == len(two)
    assert all(same(one.batch([i]), two.batch([i])) for i in range(len(one)))


def test_a_broken_off_run_goes_on(copy):
    (copy / "b.part.json").unlink()  # the part is written last
    (copy / INDEX).unlink()
    calls = []
    summary = precompute(
        SCENES,
        PixelEncoding(),
        copy,
        {"frames": 3, "height": 32, "width": 48},
        report=lambda done, total, name, summary: calls.append((done, total, name)),
    )
    assert (summary.written, summary.kept, summary.clips) == (1, 2, 1)
    assert calls == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    assert len(ShardDataset(copy)) == 5


def test_bad_scenes_are_left_out_with_their_reason(tmp_path):
    bad = [
        FakeScene("bad", (1,), error=InputError("photo must be readable")),
        FakeScene("worse", (1,), error=FileNotFoundError("gone")),
    ]
    summary = precompute([*bad, SCENES[1]], PixelEncoding(), tmp_path, {"frames": 3})
    assert summary.failed == {"bad": "InputError: photo must be readable", "worse": "FileNotFoundError: gone"}
    assert json.loads(next(tmp_path.glob("failed_*")).read_text()) == summary.failed
    assert len(ShardDataset(tmp_path)) == 1
    with pytest.raises(InputError, match=r"scenes must give a clip, got none .*bad: InputError"):
        precompute(bad, PixelEncoding(), tmp_path / "none", {"frames": 3})


def test_no_error_of_a_scene_stops_the_others(tmp_path):
    bad = [FakeScene("a", (1,), error=PermissionError(13, "denied")), FakeScene("b", (1,), error=KeyError("x"))]
    summary = precompute([*bad, SCENES[2]], PixelEncoding(), tmp_path, {"frames": 3})
    assert set(summary.failed) == {"a", "b"} and summary.clips == 2


def test_a_part_without_clips_waits_for_the_others(tmp_path):
    bad = FakeScene("bad", (1,), error=InputError("broken"))
    precompute([bad, SCENES[1]], PixelEncoding(), tmp_path, {}, (0, 2))  # part 1 may still give some
    precompute([bad, SCENES[1]], PixelEncoding(), tmp_path, {}, (1, 2))
    assert len(ShardDataset(tmp_path)) == 1
    other = tmp_path / "other"
    precompute([bad, replace(bad, name="b")], PixelEncoding(), other, {}, (0, 2))
    with pytest.raises(InputError, match="scenes must give a clip, got none"):
        precompute([bad, replace(bad, name="b")], PixelEncoding(), other, {}, (1, 2))


def test_scenes_of_one_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="have names of their own, got a 2 times"):
        precompute([SCENES[0], SCENES[0]], PixelEncoding(), tmp_path / "x", {})
    assert not (tmp_path / "x").exists()


def test_a_full_disk_is_no_matter_of_the_scene(tmp_path):
    with pytest.raises(OSError, match="No space"):
        precompute([FakeScene("a", (1,), error=OSError(28, "No space left"))], PixelEncoding(), tmp_path, {})


def test_clips_of_two_kinds_do_not_mix(folder):
    with pytest.raises(InputError, match="hold clips of these settings"):
        precompute(SCENES, PixelEncoding(patch_size=8), folder, {"frames": 3, "height": 32, "width": 48})


def test_contact_sheet(folder):
    from PIL import Image

    sheet = Image.open(next(folder.glob("sheet_*.png")))
    assert sheet.size == (7 * 128, 128)  # the first of five clips


def test_latents_of_a_model(tmp_path):
    codec = SpaceToDepthCodec(SpaceToDepth(8))
    encoder = LatentEncoding(
        "tiny", codec, TokenEncoder(None, None, None, context_dim=6, text_length=2), torch.device("cpu")
    )
    precompute(SCENES[:1], encoder, tmp_path, {"frames": 3})
    dataset = ShardDataset(tmp_path)
    batch = dataset.batch([1])
    clip, _ = clip_and_geometry(2)
    torch.testing.assert_close(batch.latents[0], codec.encode(clip.frames[None])[0], atol=1e-3, rtol=0)  # float16
    assert torch.equal(batch.conditions.render_latents[0, clip.known], batch.latents[0, clip.known])
    assert batch.conditions.tokens.shape == (1, 2, 6)
    assert batch.conditions.unconditional_tokens is not None
    with pytest.raises(InputError, match="views and crop must be left out for clips stored as latents"):
        ShardDataset(tmp_path, views=2)


def test_parts():
    assert parse_part("1/4") == (1, 4)
    for text in ("4/4", "1", "a/b", "-1/4", "1/4/2", "", "²/4"):
        with pytest.raises(InputError, match="shard must be i/n with 0 <= i < n"):
            parse_part(text)


def test_a_scene_without_clips_is_refused(tmp_path):
    with pytest.raises(InputError, match="x must give a clip"):
        write_shard(tmp_path, "x", [], {})


def test_processes_write_the_index_at_the_same_time(folder, tmp_path):
    """Whatever the order, the last index knows all scenes: two threads write it again and again as scenes appear."""
    parts = sorted(folder.glob("*.part.json"))
    meta = ShardDataset(folder).meta
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


def test_the_index_knows_a_scene_that_is_made_anew_while_it_is_written(folder, tmp_path, monkeypatch):
    parts = sorted(folder.glob("*.part.json"))
    for path in parts:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    anew = tmp_path / parts[-1].name
    anew.write_text("{}")  # as other settings left it

    def write_while_another_works(path, value):
        write_json(path, value)
        anew.write_bytes(parts[-1].read_bytes())

    monkeypatch.setattr(shards, "write_json", write_while_another_works)
    write_index(tmp_path, ShardDataset(folder).meta)
    assert len(json.loads((tmp_path / INDEX).read_text())["shards"]) == len(parts)
