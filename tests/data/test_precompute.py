"""Scenes to shards: in parts, again after a break, around scenes that fail."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from clip_scenes import SCENES, FakeScene, clip_and_geometry, same

from fvgen.checks import InputError
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.data.clip_encodings import LatentEncoding, PixelEncoding
from fvgen.data.precompute import parse_part, precompute
from fvgen.data.shards import INDEX, ShardDataset
from fvgen.models.codec import SpaceToDepth, SpaceToDepthCodec


def test_two_parts_make_the_same_set_as_one(shard_set, tmp_path):
    for part in ((1, 2), (0, 2)):
        precompute(SCENES, PixelEncoding(), tmp_path, {"frames": 3, "height": 32, "width": 48}, part)
    one, two = ShardDataset(shard_set), ShardDataset(tmp_path)
    assert one.config_hash == two.config_hash and len(one) == len(two)
    assert all(same(one.batch([i]), two.batch([i])) for i in range(len(one)))


def test_a_broken_off_run_goes_on(shard_set_copy):
    (shard_set_copy / "b.part.json").unlink()  # the part is written last
    (shard_set_copy / INDEX).unlink()
    calls = []
    summary = precompute(
        SCENES,
        PixelEncoding(),
        shard_set_copy,
        {"frames": 3, "height": 32, "width": 48},
        report=lambda done, total, name, summary: calls.append((done, total, name)),
    )
    assert (summary.written, summary.kept, summary.clips) == (1, 2, 1)
    assert calls == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    assert len(ShardDataset(shard_set_copy)) == 5


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


def test_clips_of_two_kinds_do_not_mix(shard_set):
    with pytest.raises(InputError, match="hold clips of these settings"):
        precompute(SCENES, PixelEncoding(patch_size=8), shard_set, {"frames": 3, "height": 32, "width": 48})


def test_contact_sheet(shard_set):
    from PIL import Image

    sheet = Image.open(next(shard_set.glob("sheet_*.png")))
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
