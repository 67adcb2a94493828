"""What a capture gets: what is asked for, unless trials show something else; and what may be tried for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fvgen.data.working_size import make_capture
from fvgen.generation.trials import Trials
from fvgen.geometry.points import read_ply
from fvgen.models.depth_anything import FILES
from fvgen_ns import parts as parts_module
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import densify
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.parts import BACKGROUND, DENSE, SEEDS, VIEWS, asked_for, candidates
from fvgen_ns.produce import DEPTH_NETWORKS

SETTINGS = {"geometry": "capture-depth", "working_size": 64, "frames_per_clip": 3}


@pytest.fixture(scope="module")
def split(tiny_room):
    return CaptureSplit.of(FVGenDataParserConfig(data=tiny_room).setup().get_dataparser_outputs("train"))


@pytest.fixture(scope="module")
def photos(split):
    return make_capture(split.frames, 64, sparse=split.sparse, depth_unit=split.depth_unit)


def tried(photos, **settings):
    return [set(parts) for parts in candidates(DensifyConfig(**settings), photos)]


def test_the_default_is_tried_first_then_others_by_preference(photos):
    default = [
        {DENSE, BACKGROUND, VIEWS},
        {DENSE, VIEWS},
        {DENSE, VIEWS, SEEDS},
        {DENSE, BACKGROUND},
        {DENSE},
        set(),
    ]
    assert tried(photos) == default
    assert tried(replace(photos, sparse=None)) == [parts for parts in default if parts]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"seed_holes": "never", "background": False}, [{DENSE, VIEWS}, {DENSE}, set()]),
        ({"seed_holes": "always", "background": False}, [{DENSE, VIEWS, SEEDS}, {DENSE, SEEDS}]),
        ({"generator": "none"}, [{DENSE, BACKGROUND}, {DENSE}, {DENSE, SEEDS}, set()]),
        ({"generator": "student", "seed_holes": "never"}, [{DENSE, BACKGROUND}, {DENSE}]),  # views are never left out
    ],
)
def test_nothing_is_tried_that_the_options_rule_out(photos, settings, wanted):
    assert tried(photos, **settings) == wanted


def made(split, photos, cache: Path, **settings):
    config = DensifyConfig(**SETTINGS, cache_dir=cache, **settings)
    outputs = densify(split, config, max_points=2000, image_size=64, capture=photos).outputs
    (folder,) = cache.iterdir()
    return outputs, folder, json.loads((folder / "transforms.json").read_text())["fvgen"]


def test_trials_are_shown_and_kept(split, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fvgen.generation.trials.ITERATIONS", 10)
    random = torch.get_rng_state()
    outputs, _, about = made(split, photos, tmp_path)
    assert torch.equal(torch.get_rng_state(), random)  # training is the same as with views that are read back
    assert {len(errors) for errors in about["trials"].values()} == {len(split.frames)}
    assert len(about["trials"]) == 6 and "photos only" in about["trials"]
    (note,) = [note for note in outputs.metadata["notes"] if note.startswith("Trials (AVGE")]
    assert note in about["notes"] and "Chosen: " in note
    assert "Trials on photos left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "winner",
    ["photos only", "dense points", "dense points + background", "dense points + generated views + seeds in holes"],
)
def test_what_wins_is_what_the_capture_gets(split, photos, tmp_path, monkeypatch, winner):
    def fixed(capture, geometry, make, **_):
        return Trials({name: (0.1, 0.1) if name == winner else (0.2, 0.2) for name in make(capture, geometry)})

    monkeypatch.setattr(parts_module, "run_trials", fixed)
    outputs, folder, about = made(split, photos, tmp_path)
    assert about["notes"][-1].endswith(f"Chosen: {winner}.")
    assert (folder / "dense.ply").exists() == ("dense" in winner)
    assert (folder / "background.ply").exists() == ("background" in winner)
    assert (folder / "hole_seeds.ply").exists() == ("seeds" in winner)
    assert (len(outputs.image_filenames) > len(split.frames)) == ("views" in winner)


@pytest.mark.parametrize("seed_holes", ["always", "auto"])
def test_without_trials_all_that_is_asked_for_is_added(split, photos, tmp_path, monkeypatch, seed_holes):
    monkeypatch.setattr(parts_module, "run_trials", lambda *_, **__: pytest.fail("nothing is tried"))
    _, folder, about = made(split, photos, tmp_path, trials=False, seed_holes=seed_holes)
    assert about["trials"] == {} and (folder / "dense.ply").exists()
    assert (folder / "hole_seeds.ply").exists() == (seed_holes == "always")
    assert (SEEDS in asked_for(DensifyConfig(seed_holes=seed_holes))) == (seed_holes == "always")


def test_a_depth_network_completes_what_is_not_measured(split, photos, tmp_path, monkeypatch):
    """A stand-in for the network says the truth, up to a scale and a shift; half of each photo is measured."""

    class Exact:
        def inverse_depth(self, *_):
            return 2 / photos.depths.clamp_min(1e-6) + 0.1

    network = tmp_path / "network"
    network.mkdir()
    for name in FILES:
        (network / name).write_text(name)
    monkeypatch.setitem(DEPTH_NETWORKS, "depth-anything", lambda folder: Exact())
    measured = photos.depths.clone()
    measured[..., measured.shape[-1] // 2 :] = 0
    half = replace(photos, depths=measured)
    asked = {"geometry_completion": "depth-anything", "depth_model": network}
    settings = {"trials": False, "generator": "none", "background": False}
    counts = []
    for name, more in (("without", {}), ("with", asked)):
        _, folder, _ = made(split, half, tmp_path / name, **settings, **more)
        counts.append(len(read_ply(folder / "dense.ply")))
    assert counts[1] > 1.5 * counts[0]
