"""Which clips a run trains on, and which it keeps for its held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from stand_in import MemoryClips, stand_in_config, stand_in_roles

from fvgen.checks import InputError
from fvgen.clip import TrainBatch
from fvgen.distillation.batches import Batches, ClipSource, held_out_keys
from fvgen.distillation.parallel import Processes
from fvgen.distillation.previews import HeldOutPreview

CLIPS, VIEWS, HELD_OUT = 5, 3, 2


class SeenClips(MemoryClips):
    """Clips in views, which remember what was read."""

    def __init__(self, clips: int = CLIPS, views: int = VIEWS) -> None:
        super().__init__(clips * views)
        self.views = views
        self.read: list[int] = []

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        self.read += keys
        return super().batch(keys)


def epoch(source: ClipSource, held_out: int) -> list[int]:
    """Numbers of one pass over the clips."""
    batches = Batches(source, 0, 1, range(1), 1, held_out)
    keys = [batches.keys(update, [0])[0] for update in range(len(source))]
    batches.close()
    return keys


def test_a_held_out_clip_is_trained_on_in_no_view():
    trained = {view * CLIPS + clip for view in range(VIEWS) for clip in range(CLIPS - HELD_OUT)}
    keys = epoch(SeenClips(), HELD_OUT)
    assert set(keys) == trained and set(keys[: len(trained)]) == trained  # each of them in one epoch
    assert held_out_keys(SeenClips(), HELD_OUT) == [3, 4]


def test_single_views_are_seen_in_the_order_that_they_always_were():
    assert epoch(MemoryClips(5), 2) == epoch(SeenClips(5, 1), 2) == [2, 0, 1, 2, 0]


def test_held_out_clips_of_all_views_are_too_many():
    with pytest.raises(InputError, match="data set must hold clips to train on beside 5 held out, got 5"):
        Batches(SeenClips(), 0, 1, range(1), 1, CLIPS)


def preview(source: ClipSource, output: Path, monkeypatch, **options) -> HeldOutPreview:
    """One that shows the clips themselves: sampling is not what is tested here."""
    monkeypatch.setattr(HeldOutPreview, "_sample", lambda self, key: (batch := source.batch([key]), batch.latents))
    return HeldOutPreview(
        stand_in_roles(), source, stand_in_config(1, held_out=HELD_OUT), output, Processes(), [999], **options
    )


def test_previews_are_of_held_out_clips_as_they_are(tmp_path, monkeypatch):
    source = SeenClips()
    preview(source, tmp_path, monkeypatch)(1, {})
    assert source.read == [3, 4]


def test_a_full_disk_costs_the_pictures_not_the_run(tmp_path, monkeypatch):
    (tmp_path / "samples").touch()  # no folder can be made

    class Board:
        def picture(self, step: int, image: torch.Tensor) -> None:
            raise AssertionError("not reached")

    def decode(z, batch):
        return z[:, :, :1].expand(-1, -1, 3, -1, -1)

    show = preview(SeenClips(), tmp_path, monkeypatch, log=Board(), decode=decode)
    with pytest.warns(UserWarning, match="step 1: samples not written"):
        assert show(1, {})["error"] == 0
