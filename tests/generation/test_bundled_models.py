"""The small teacher and student that ship with the package."""

from __future__ import annotations

import pytest
import torch

from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.metrics import psnr
from fvgen.models.find import BUNDLED, NEEDS_MODEL, TINY, find_model
from fvgen.procedural.clips.clip import ClipLayout, procedural_clip, procedural_geometry

MIB = 1 << 20


@pytest.mark.parametrize("kind", NEEDS_MODEL)
def test_they_are_found_by_name_and_carry_a_card(kind):
    folder = find_model(kind, TINY)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert folder == BUNDLED / kind and "## Data" in card and "## Settings" in card


def test_they_are_small():
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40 * MIB
    assert max(path.stat().st_size for path in files) < 16 * MIB
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}


def test_the_student_passes_photos_on_keeps_what_is_seen_and_fills_holes():
    """On clips that it was not trained on; the bounds leave room for rounding, not for another model."""
    drawn: dict[str, list[float]] = {}
    for seed in range(2_000_000, 2_000_004):
        clip, depths = procedural_clip(seed, ClipLayout(frames=8, height=96, width=128))
        geometry = procedural_geometry(clip, depths, seed)
        for name in ("points", "warp", "student"):
            options = {"size": "working"} if name == "student" else {}
            views = VIEW_GENERATORS[name](**options).generate(clip.capture, geometry, clip.path, seed)
            photo = clip.path.photo
            assert torch.equal(views.rgb[photo >= 0], clip.capture.photos[photo[photo >= 0]])
            for frame in (~views.is_photo).nonzero()[:, 0]:
                covered = views.covered[frame]
                for part, mask in (("covered", covered), ("holes", ~covered)):
                    if mask.any():
                        score = float(psnr(views.rgb[frame], clip.frames[frame], mask))
                        drawn.setdefault(f"{name} {part}", []).append(score)
    mean = {key: sum(scores) / len(scores) for key, scores in drawn.items()}
    assert mean["student holes"] > mean["points holes"] + 5
    assert mean["student holes"] > mean["warp holes"] - 0.2
    assert mean["student covered"] > mean["points covered"] - 0.1
