"""Scenes of tiny procedural clips, for sets of shards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fvgen.clip import TrainBatch
from fvgen.procedural.clips.clip import ClipLayout, procedural_clip, procedural_geometry

LAYOUT = ClipLayout(frames=3, height=32, width=48)


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


def same(a: TrainBatch, b: TrainBatch) -> bool:
    return torch.equal(a.latents, b.latents) and torch.equal(a.conditions.render_latents, b.conditions.render_latents)
