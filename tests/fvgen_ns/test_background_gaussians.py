"""Gaussians of the background: faint at first, and still known as such when others come, go and are loaded."""

from __future__ import annotations

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import SceneBox

from fvgen_ns.fvgen_model import FVGenModel, FVGenModelConfig
from fvgen_ns.splat.initial_gaussians import BACKGROUND_OPACITY

FAR = -6.0
"""Between the scene, at z = -3, and its background, at -10."""


def model_of(scene: int = 40, background: int = 10, guesses: int = 4, **options) -> FVGenModel:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(scene + background, 3, generator=generator) - 0.5
    xyz[:, 2] -= torch.where(torch.arange(scene + background) < scene, 3.0, 10.0)
    return FVGenModelConfig(num_random=30, background_color="black", **options).setup(
        scene_box=SceneBox(torch.eye(3)[:2]),
        num_train_data=4,
        metadata={"num_photos": 4, "scene_scale": 3.0, "num_background": background, "num_guesses": guesses},
        seed_points=(xyz, torch.full(xyz.shape, 128.0)),
    )


def test_they_start_faint_and_the_others_do_not_change_their_size():
    model, alone = model_of(), model_of(background=0, guesses=0)
    assert model.is_background.sum() == 10 and (model.means[model.is_background][:, 2] < FAR).all()
    opacities = torch.sigmoid(model.opacities)[:, 0]
    torch.testing.assert_close(opacities[model.is_background], torch.full((10,), BACKGROUND_OPACITY))
    torch.testing.assert_close(opacities[~model.is_background], torch.full((40,), model.config.initial_opacity))
    assert not alone.is_background.any() and torch.equal(model.scales[:40], alone.scales)


def test_random_gaussians_are_no_background():
    assert not model_of(random_init=True).is_background.any()


def test_the_tag_follows_each_gaussian_that_is_split_copied_or_removed():
    options = {"refine_every": 1, "warmup_length": 0, "densify_grad_thresh": 1e-12, "rasterizer": "torch"}
    model = model_of(**options, stop_split_at=100, reset_alpha_every=1000, cull_alpha_thresh=0.005)
    model.train()
    model.step = 7  # past the pause of the strategy
    model.optimizers = {name: torch.optim.Adam(part) for name, part in model.get_param_groups().items() if part}
    with torch.no_grad():
        model.opacities[::5] = -10.0  # to be removed
    camera = Cameras(torch.eye(4)[None, :3], 20.0, 20.0, 16.0, 16.0, 32, 32)
    model.get_outputs(camera)["rgb"].square().mean().backward()
    for optimizer in model.optimizers.values():
        optimizer.step()
    model.step_post_backward(7)
    assert model.num_points > 50 and len(model.is_background) == model.num_points
    assert torch.equal(model.is_background, model.means[:, 2] < FAR) and model.is_background.any()
    assert 0 < model.is_guess.sum() < model.is_background.sum() and not (model.is_guess & ~model.is_background).any()


def test_the_tag_is_saved_and_checkpoints_without_one_load():
    state = model_of(scene=25, background=5).state_dict()
    model = model_of()
    model.load_state_dict(dict(state))
    assert model.is_background.tolist() == [False] * 25 + [True] * 5
    assert model.is_guess.tolist() == [False] * 26 + [True] * 4
    del state["is_guess"]
    model.load_state_dict(dict(state))
    assert torch.equal(model.is_guess, model.is_background)  # what older versions took the background for
    del state["is_background"]
    model.load_state_dict(dict(state))
    assert not model.is_background.any() and not model.is_guess.any()


def test_training_fades_and_moves_guesses_but_does_not_sharpen_them():
    model = model_of(rasterizer="torch", sh_degree_interval=1)
    model.train()
    model.step = 3
    before = {name: value.detach().clone() for name, value in model.gauss_params.items()}
    model.optimizers = {name: torch.optim.Adam(part) for name, part in model.get_param_groups().items() if part}
    outputs = model.get_outputs(Cameras(torch.eye(4)[None, :3], 20.0, 20.0, 16.0, 16.0, 32, 32))
    sum(model.get_loss_dict(outputs, {"image": torch.rand(32, 32, 3)}).values()).backward()
    for optimizer in model.optimizers.values():
        optimizer.step()
    changed = {name: (value != before[name]).flatten(1).any(1) for name, value in model.gauss_params.items()}
    guess = model.is_guess
    for name in ("scales", "features_rest"):
        assert not changed[name][guess].any() and changed[name][~guess & model.is_background].any(), name
    for name in ("means", "features_dc", "opacities"):
        assert changed[name][guess].any(), name
