"""Nerfstudio's options: each is used, or refused where it is set."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import fields

import pytest
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig

from fvgen.checks import InputError
from fvgen_ns import fvgen_datamanager, fvgen_model
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.splat import initial_gaussians, regularizers, strategy
from fvgen_ns.stock_options import UNUSED, refuse_unused

OTHERS = {
    "prompt": "a horse",
    "collider_params": {"near_plane": 0.0},
    "loss_coefficients": {"rgb": 2.0},
    "eval_image_indices": (1,),
    "train_cameras_sampling_strategy": "fps",
    "rasterize_mode": "antialiased",
    "grid_shape": (8, 8, 8),
}


def other_value(name: str, value: object) -> object:
    """A value of the same kind that is not the default."""
    if name in OTHERS:
        return OTHERS[name]
    return not value if isinstance(value, bool) else (value or 0) + 3


@pytest.mark.parametrize("option", [*UNUSED, "pipeline.datamanager.dataparser.downscale_factor"])
def test_options_without_effect_are_refused_by_name(option):
    config = deepcopy(fvgen_splat_cpu.config)
    refuse_unused(config)
    *groups, name = option.split(".")
    owner = config
    for group in groups:
        owner = getattr(owner, group)
    setattr(owner, name, other_value(name, getattr(owner, name)))
    with pytest.raises(InputError, match=f"^--{option.replace('_', '-')} must stay .*no effect here"):
        refuse_unused(config)


def test_options_of_the_logs_looks_are_put_up_with():
    config = deepcopy(fvgen_splat_cpu.config)
    config.logging.local_writer.max_log_size = 0
    config.logging.local_writer.stats_to_track = ()
    refuse_unused(config)


INHERITED = {
    "data", "dataparser", "cache_images_type", "train_cameras_sampling_seed",  # by Nerfstudio's FullImageDatamanager
    "cache_images", "resolution_schedule", "num_downscales", "output_depth_during_training",  # splatfacto's; always on
}  # fmt: skip
MODEL = (fvgen_model, initial_gaussians, regularizers, strategy)


@pytest.mark.parametrize(
    ("stock", "modules", "prefix"),
    [
        (FullImageDatamanagerConfig, (fvgen_datamanager,), "pipeline.datamanager."),
        (SplatfactoModelConfig, MODEL, "pipeline.model."),
    ],
    ids=["data manager", "model"],
)
def test_no_stock_option_is_ignored(stock, modules, prefix):
    """Each is refused, or our code reads it, or what we inherit does."""
    source = "".join(map(inspect.getsource, modules))
    for field in fields(stock):
        known = prefix + field.name in UNUSED or f"config.{field.name}" in source or field.name in INHERITED
        assert known or field.name == "_target", field.name
    inherited = inspect.getsource(SplatfactoModel._get_downscale_factor)
    assert "resolution_schedule" in inherited and "num_downscales" in inherited
