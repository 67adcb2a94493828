"""Going on from a checkpoint: totals, options that must fit, and Gaussians that are not finite."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox

from fvgen.checks import InputError
from fvgen_ns.checkpoint import (
    GAUSSIANS,
    check_fit,
    check_images,
    find_checkpoint,
    read_checkpoint,
    without_broken_gaussians,
)
from fvgen_ns.fvgen_config import fvgen_splat_cpu
from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig


def model_of(photos: int = 3, **options) -> FVGenModel:
    return FVGenModelConfig(num_random=20, **options).setup(
        scene_box=SceneBox(torch.eye(3)[:2]), num_train_data=photos, metadata={"num_photos": photos}
    )


def state_of(model: FVGenModel, step: int = 59) -> dict:
    """As the trainer writes it."""
    optimizers, schedulers = {}, {}
    for name, parameters in model.get_param_groups().items():
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        optimizers[name] = optimizer.state_dict()
        if fvgen_splat_cpu.config.optimizers[name]["scheduler"] is not None:
            schedulers[name] = {}
    pipeline = {f"_model.{name}": value for name, value in model.state_dict().items()}
    return {"step": step, "pipeline": pipeline, "optimizers": optimizers, "schedulers": schedulers, "scalers": {}}


def config_of(**model_options):
    config = deepcopy(fvgen_splat_cpu.config)
    config.max_num_iterations = 100
    for name, value in model_options.items():
        setattr(config.pipeline.model, name, value)
    return config


def with_camera_poses(config):
    config.pipeline.model.camera_optimizer.mode = "SO3xR3"
    return config


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        ({"photo_colour": "affine"}, config_of(), "--pipeline.model.photo-colour must be affine .* got off"),
        ({}, config_of(photo_colour="affine"), "--pipeline.model.photo-colour must be off .* got affine"),
        ({"sh_degree": 1}, config_of(), "--pipeline.model.sh-degree must be 1 .* got 3"),
        ({}, with_camera_poses(config_of()), "--pipeline.model.camera-optimizer.mode must be off .* got SO3xR3"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(then, now, message):
    with pytest.raises(InputError, match=message):
        check_fit(state_of(model_of(**then)), now)


def test_options_that_fit_are_taken():
    check_fit(state_of(model_of(photo_colour="affine")), config_of(photo_colour="affine"))


def test_a_scheduler_that_the_checkpoint_has_must_be_there():
    config = config_of()
    config.optimizers = {**config.optimizers, "means": {**config.optimizers["means"], "scheduler": None}}
    with pytest.raises(InputError, match=r"--optimizers\.means\.scheduler must not be None"):
        check_fit(state_of(model_of()), config)


@pytest.mark.parametrize("asked", [20, 60])
def test_a_total_that_is_reached_is_refused(asked):
    config = config_of()
    config.max_num_iterations = asked
    with pytest.raises(InputError, match=rf"must be more than the 60 .*, got {asked}\. This total is reached"):
        check_fit(state_of(model_of()), config)


def test_a_checkpoint_of_other_photos_is_refused():
    then = state_of(model_of(photos=3, photo_colour="affine"))
    check_images(then, model_of(photos=3, photo_colour="affine"))
    with pytest.raises(InputError, match=r"number of photos that --data gives must be 3 .* got 4"):
        check_images(then, model_of(photos=4, photo_colour="affine"))


def test_steps_and_files_that_are_not_there_are_refused(tmp_path):
    config = config_of()
    config.load_dir = tmp_path
    for step in (9, 59):
        (tmp_path / f"step-{step:09d}.ckpt").touch()
    (tmp_path / "notes.txt").touch()
    assert find_checkpoint(config) == tmp_path / "step-000000059.ckpt"
    config.load_step = 9
    assert find_checkpoint(config) == tmp_path / "step-000000009.ckpt"
    config.load_step = 10
    with pytest.raises(InputError, match=r"--load-step must be one of \[9, 59\], got 10"):
        find_checkpoint(config)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_checkpoints_are_refused(tmp_path, content):
    (tmp_path / "step-000000009.ckpt").write_bytes(content)
    with pytest.raises(InputError, match="the checkpoint must be a whole one of fvgen-splat"):
        read_checkpoint(tmp_path / "step-000000009.ckpt")


def test_checkpoints_of_other_methods_are_refused(tmp_path):
    torch.save({"step": 3, "pipeline": {}, "optimizers": {}, "schedulers": {}, "scalers": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="the checkpoint must be of fvgen-splat"):
        read_checkpoint(tmp_path / "a.ckpt")


def spoil(pipeline: dict) -> None:
    """Four Gaussians of twenty that are not whole."""
    pipeline[f"{GAUSSIANS}means"][0, 1] = float("nan")
    pipeline[f"{GAUSSIANS}scales"][1] = float("inf")
    pipeline[f"{GAUSSIANS}opacities"][2] = float("inf")
    pipeline[f"{GAUSSIANS}quats"][3] = 0


def test_only_broken_gaussians_are_left_out_of_a_loaded_splat(capsys):
    stored = state_of(model_of())["pipeline"]
    spoil(stored)
    model = model_of()
    model.load_state_dict({name.removeprefix("_model."): value for name, value in stored.items()})
    assert model.num_points == 16
    assert torch.equal(model.means, stored[f"{GAUSSIANS}means"][4:])
    assert "Left out 4 of the checkpoint's 20 Gaussians" in capsys.readouterr().out


def test_training_goes_on_without_broken_gaussians():
    state = state_of(model_of())
    spoil(state["pipeline"])
    kept = without_broken_gaussians(state)
    assert {len(v) for k, v in kept["pipeline"].items() if k.startswith(GAUSSIANS)} == {16}
    moments = kept["optimizers"]["means"]["state"][0]
    assert torch.equal(moments["exp_avg"], state["optimizers"]["means"]["state"][0]["exp_avg"][4:])
    assert moments["step"] == 1


def test_colours_of_photos_are_loaded_where_the_capture_is_gone():
    stored = {
        name.removeprefix("_model."): v for name, v in state_of(model_of(photo_colour="affine"))["pipeline"].items()
    }
    model = model_of(photos=0, photo_colour="affine")
    model.load_state_dict(stored)
    assert torch.equal(model.photo_colours, stored["photo_colours"])
