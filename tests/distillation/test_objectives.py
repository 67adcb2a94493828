"""Recipes: whom their gradients reach, what they feed the networks, and that no clip depends on its batch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from exact_scores import OneStream
from tiny_networks import RECIPES, batch, draws, part, perturb, roles_for

from fvgen.checks import InputError
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.sampling import sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.configs import PRESETS
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.causvid import CausVidRegression
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import draw_clips, draw_timesteps
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.objectives.regression import Regression
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles

TRAINED_BY_CRITIC = {
    "fvgen_stage1": {"discriminator"},
    "fvgen_stage1, simulated": {"discriminator"},
    "fvgen_stage2": {"fake_score"},
    "fvgen_stage2, simulated": {"fake_score"},
    "fvgen_stage2, discriminator trained": {"fake_score", "discriminator"},
    "dmd2": {"fake_score", "discriminator"},
    "causvid_regression": set(),
    "causvid": {"fake_score"},
    "avdm2": {"discriminator", "frame_fake_score"},
    "avdm2, guided": {"discriminator", "frame_fake_score"},
    "avdm2, video score": {"discriminator", "fake_score"},
    "avdm2, gan alone": {"discriminator"},
}


def reached(roles: Roles) -> set[str]:
    """Roles in which any parameter has a gradient; which of them are frozen does not matter."""
    found = set()
    for name, module in {**roles.modules(), **roles.trainable()}.items():
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        shared_view = name in ("teacher", "student", "fake_score") and not hasattr(module, "config")
        if grads and not (shared_view and name not in roles.trainable()):
            assert sum(float(g.abs().sum()) for g in grads) > 0, f"{name} has gradients that are zero"
            found.add(name)
    return found


def frozen_state(roles: Roles) -> dict[str, torch.Tensor]:
    trained = {id(p) for module in roles.trainable().values() for p in module.parameters()}
    return {
        f"{name}.{key}": p.detach().clone()
        for name, module in roles.modules().items()
        for key, p in module.named_parameters()
        if id(p) not in trained
    }


def test_every_recipe_is_here():
    assert {type(recipe) for recipe in RECIPES.values()} == {type(p.objective) for p in PRESETS.values()} - {Diffusion}


@pytest.mark.parametrize("backbone", ["full", "shared"])
@pytest.mark.parametrize("name", RECIPES)
def test_gradients_reach_exactly_the_networks_they_should(name, backbone):
    """And descending them leaves every frozen weight, and what the teacher gives, as it was, bit for bit."""
    objective = RECIPES[name]
    roles = roles_for(objective, backbone)
    assert set(roles.trainable()) - {"density_ratio"} == {"student"} | TRAINED_BY_CRITIC[name] == set(objective.trains)
    sample = torch.randn(1, 4, 7, 8, 8), torch.tensor([500]), torch.randn(1, 3, 8)
    before, output = frozen_state(roles), roles.teacher(*sample).sample.detach()
    assert any(key.startswith("teacher.") for key in before)

    phases = [("critic_loss", TRAINED_BY_CRITIC[name])] if objective.critic_steps else []
    for phase, trained in [*phases, ("student_loss", {"student"})]:  # untrained, the fake score would say nothing new
        getattr(objective, phase)(roles, batch(), draws())["loss"].backward()
        assert reached(roles) == trained
        for role in trained:
            torch.optim.AdamW(roles.trainable()[role].parameters(), lr=1e-2).step()
            roles.trainable()[role].zero_grad(set_to_none=True)

    after = frozen_state(roles)
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert torch.equal(roles.teacher(*sample).sample, output)


@pytest.mark.parametrize("name", RECIPES)
def test_a_loss_is_the_mean_of_its_clips_losses(name):
    """So that micro-batches and processes may split a batch as they like."""
    objective = RECIPES[name]
    roles = roles_for(objective)
    for module in roles.trainable().values():
        perturb(module)
    whole = batch(3)
    for phase in ["critic_loss"] * bool(objective.critic_steps) + ["student_loss"]:
        together = getattr(objective, phase)(roles, whole, draws(3))
        one = getattr(objective, phase)(roles, part(whole, slice(0, 1)), BatchRandom((0, 0), [0]))
        two = getattr(objective, phase)(roles, part(whole, slice(1, 3)), BatchRandom((0, 0), [1, 2]))
        split = (one["loss"] + 2 * two["loss"]) / 3
        assert float(together["loss"].detach()) == pytest.approx(float(split.detach()), rel=2e-4, abs=1e-7)
        assert all(not value.requires_grad for key, value in together.items() if key != "loss")


@pytest.mark.parametrize("name", RECIPES)
def test_under_bfloat16_autocast_losses_are_float32_and_finite(name):
    objective = RECIPES[name]
    roles = roles_for(objective)
    with torch.autocast("cpu", torch.bfloat16):
        for phase in ["critic_loss"] * bool(objective.critic_steps) + ["student_loss"]:
            values = getattr(objective, phase)(roles, batch(), draws())
            assert values["loss"].dtype == torch.float32 and values["loss"].isfinite()
            values["loss"].backward()
    grads = [p.grad for p in roles.trainable()["student"].parameters() if p.grad is not None]
    assert grads and all(g.isfinite().all() for g in grads)


# ---- the student's clips ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_backward_simulation_is_the_sampler_that_ships(seed):
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    timesteps = (999, 749, 499, 249)
    z = draw_clips(roles, clips, draws(step=seed), timesteps, "backward_simulation")
    random = draws(step=seed)
    x_T, last = random.randn_like(clips.latents), random.shared_randint(0, 4)
    with torch.no_grad():
        denoise = conditional_denoiser(roles.student, clips.conditions, roles.schedule)
        expected = sample_few_step(
            denoise, x_T, timesteps, roles.schedule, randn_like=random.randn_like, grad_step=last
        )
    assert torch.equal(z, expected) and z.requires_grad


def test_the_gradient_passes_through_the_last_call_alone():
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    modes = []
    roles.student.register_forward_pre_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    lengths = set()
    for step in range(8):
        modes.clear()
        draw_clips(roles, clips, draws(step=step), (999, 749, 499, 249), "backward_simulation")
        assert modes == [False] * (len(modes) - 1) + [True]
        lengths.add(len(modes))
    assert lengths == {1, 2, 3, 4}  # every step has its turn


def test_noised_real_clips_are_the_students_input_at_its_own_timesteps():
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch(8)
    calls = []
    roles.student.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[:2]))
    draw_clips(roles, clips, draws(8), (999, 749, 499, 249), "noised_real")
    ((sample, t),) = calls
    assert set(t.tolist()) <= {999, 749, 499, 249} and len(set(t.tolist())) > 1
    random = draws(8)
    assert torch.equal(t, torch.tensor([999, 749, 499, 249])[random.randint(0, 4)])
    x0 = roles.schedule.scale_latents(clips.latents, t)  # rescaled: 0.7 of z but at t = 249
    expected = roles.schedule.add_noise(x0, random.randn_like(clips.latents), t)
    assert torch.equal(sample[:, :, :3], expected)


def test_noise_levels_keep_to_their_range():
    schedule, random = NoiseSchedule(), OneStream(0, 20_000)
    t = draw_timesteps(random, schedule, (0.02, 0.98), torch.zeros(1))
    assert (int(t.min()), int(t.max())) == (20, 979)
    full = draw_timesteps(random, schedule, (0.0, 1.0), torch.zeros(1))
    assert (int(full.min()), int(full.max())) == (0, 999)
    assert set(draw_timesteps(random, schedule, (0.5, 0.5), torch.zeros(1)).tolist()) == {500}


# ---- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Adversarial(t_range=(0.5, 0.2)), "t_range must satisfy"),
        (lambda: Adversarial(r1_weight=-1), "r1_weight must be 0 or more"),
        (lambda: DistributionMatching(t_range=(0.0, 1.1)), "t_range must satisfy"),
        (lambda: FrameMatching(frames=0), "frames must be at least 1"),
        (lambda: FVGenStage2(discriminator_every=-1), "discriminator_every must be 0 or more"),
        (lambda: CausVidRegression(teacher_steps=0), "teacher_steps must be at least 1"),
        (lambda: Regression(weight=-1.0), "weight must be 0 or more"),
    ],
)
def test_bad_settings_are_refused(make, complaint):
    with pytest.raises(InputError, match=complaint):
        make()


@pytest.mark.parametrize("name", ["fvgen_stage1", "fvgen_stage2"])
def test_the_pull_to_the_real_clips_is_added_with_its_weight(name):
    plain, pulled = RECIPES[name], replace(RECIPES[name], regression=Regression(weight=3.0))
    roles, clips = roles_for(plain, "full"), batch()
    z = draw_clips(roles, clips, draws(), plain.timesteps, plain.student_input)
    distance = (z - clips.latents).square().mean()
    without = plain.student_loss(roles, clips, draws())["loss"]
    found = pulled.student_loss(roles, clips, draws())
    torch.testing.assert_close(found["regression"], distance.detach())
    torch.testing.assert_close(found["loss"] - without, 3 * distance)
    weight = next(roles.student.parameters())
    ours, terms = (torch.autograd.grad(loss, weight)[0] for loss in (found["loss"], without + 3 * distance))
    torch.testing.assert_close(ours, terms)


def test_a_regression_has_no_critic():
    with pytest.raises(RuntimeError, match="trains no critic"):
        CausVidRegression().critic_loss(roles_for(RECIPES["causvid_regression"]), batch(), draws())


def test_fvgens_defaults_are_the_papers():
    assert FVGenStage1().timesteps == FVGenStage2().timesteps == (999, 749, 499, 249)
    assert FVGenStage1().student_input == "noised_real" and FVGenStage2().matching.divergence == "softened_reverse_kl"


def test_a_shift_leans_to_high_noise_levels():
    """The timesteps that a network is asked for, against the shift's own quantiles."""
    asked = []

    def network(sample, t, tokens, fps):
        asked.append(t)
        return SimpleNamespace(sample=torch.zeros_like(sample[:, :, :3]))

    clips = batch(clips=64)
    for step in range(16):
        Diffusion(shift=3.0).student_loss(Roles(NoiseSchedule(), network), clips, draws(64, step))
    t = torch.cat(asked).float() / 1000
    for u in (0.25, 0.5, 0.75):
        assert abs(float(t.quantile(u)) - 3 * u / (1 + 2 * u)) < 0.03  # of 1024 draws
    assert t.min() >= 0 and t.max() <= 0.999
    with pytest.raises(InputError, match="shift must be positive"):
        Diffusion(shift=0.0)
