"""Options of ns-train: short forms, one choice of quality, ours first in the help."""

from __future__ import annotations

from dataclasses import fields

import pytest
import tyro

from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.fvgen_config import fvgen_splat, fvgen_splat_cpu
from fvgen_ns.fvgen_datamanager import FVGenDataManagerConfig
from fvgen_ns.fvgen_model import FVGenModelConfig
from fvgen_ns.quality import QUALITIES, Quality, follow_quality
from fvgen_ns.schedules import follow_iterations


def parsed(*arguments: str, method=fvgen_splat_cpu):
    """The config of a command line, as ns-train parses it: methods are sub-commands."""
    methods = {"fvgen-splat": method.config, "other": fvgen_splat.config}
    return tyro.cli(tyro.extras.subcommand_type_from_defaults(methods), args=["fvgen-splat", *arguments])


def sizes(config) -> Quality:
    manager = config.pipeline.datamanager
    return Quality(config.max_num_iterations, manager.image_size, manager.densify.working_size, manager.max_points)


@pytest.mark.parametrize(
    ("option", "value", "where"),
    [
        ("--generator", "student", "pipeline.datamanager.densify.generator"),
        ("--geometry", "none", "pipeline.datamanager.densify.geometry"),
        ("--seed-holes", "never", "pipeline.datamanager.densify.seed_holes"),
        ("--image-size", "100", "pipeline.datamanager.image_size"),
        ("--max-points", "77", "pipeline.datamanager.max_points"),
        ("--rasterizer", "torch", "pipeline.model.rasterizer"),
        ("--photo-colour", "affine", "pipeline.model.photo_colour"),
    ],
)
def test_a_short_form_is_the_long_one(option, value, where):
    long = "--" + where.replace("_", "-")
    found = []
    for name in (option, long):
        config = parsed(name, value)
        for part in where.split("."):
            config = getattr(config, part)
        found.append(config)
    assert found[0] == found[1] == type(found[0])(value)


def test_a_quality_sets_all_sizes_together():
    for name, expected in QUALITIES.items():
        config = parsed("--quality", name)
        follow_quality(config)
        follow_iterations(config)
        assert sizes(config) == expected
        assert config.pipeline.model.stop_split_at == expected.iterations // 2
        follow_quality(config)  # a second time changes nothing
        assert sizes(config) == expected


def test_sizes_that_the_user_sets_stay():
    config = parsed("--quality", "high", "--image-size", "900", "--max-num-iterations", "50")
    follow_quality(config)
    assert sizes(config) == Quality(50, 900, *QUALITIES["high"][2:])


def test_a_method_has_the_sizes_of_its_quality():
    for method in (fvgen_splat, fvgen_splat_cpu):
        assert sizes(method.config) == QUALITIES[method.config.quality]
    assert fvgen_splat_cpu.config.quality == "quick"


def test_no_two_options_have_one_short_form():
    own = [name for cls in (DensifyConfig, FVGenDataManagerConfig, FVGenModelConfig) for name in cls.__annotations__]
    top = [field.name for field in fields(fvgen_splat.config)]
    shared = {name for name in own if own.count(name) > 1} | (set(own) & set(top))
    assert shared <= {"_target"}
