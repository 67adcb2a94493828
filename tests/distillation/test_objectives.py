"""Recipes: whom their gradients reach, what they feed the networks, and that no clip depends on its batch."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from exact_scores import Exact, OneStream, gaussian, numbers
from tiny_networks import RECIPES, batch, frame_teacher, part, perturb, roles_for

from fvgen.checks import InputError
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.guidance import guide
from fvgen.diffusion.sampling import sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.configs import PRESETS
from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.causvid import CausVid, CausVidRegression
from fvgen.distillation.objectives.diffusion import Diffusion
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import draw_clips, draw_timesteps, noised
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
    "fvgen_stage2, noised real": {"fake_score"},
    "fvgen_stage2, discriminator trained": {"fake_score", "discriminator"},
    "dmd2": {"fake_score", "discriminator"},
    "causvid_regression": set(),
    "causvid": {"fake_score"},
    "avdm2": {"discriminator", "frame_fake_score"},
}


def draws(clips=2, step=0) -> BatchRandom:
    return BatchRandom((0, step), range(clips))


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


# ---- adversarial --------------------------------------------------------------------------------------------------


def test_real_and_generated_clips_get_the_same_noise_and_level():
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    _, meters = Adversarial().critic_term(roles, clips.latents, clips, draws())
    assert torch.equal(meters["logit_real"], meters["logit_fake"])


def test_the_teachers_decoder_is_never_run_for_the_discriminator():
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    runs = []
    roles.teacher.conv_out.register_forward_hook(lambda *_: runs.append(1))
    Adversarial().critic_term(roles, clips.latents, clips, draws())
    assert not runs


def test_r1_is_added_with_its_weight():
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    z = torch.randn_like(clips.latents)
    plain, _ = Adversarial().critic_term(roles, z, clips, draws())
    punished, meters = Adversarial(r1_weight=50.0).critic_term(roles, z, clips, draws())
    assert float(meters["r1"]) > 0
    assert float((punished - plain).detach()) == pytest.approx(50 * float(meters["r1"]), rel=1e-3)


def test_a_student_that_descends_looks_more_real():
    """Sign: a step of the clips against the gradient raises the logit."""
    roles, clips = roles_for(RECIPES["fvgen_stage1"]), batch()
    z = torch.randn_like(clips.latents).requires_grad_()
    before, _ = Adversarial().student_term(roles, z, clips, draws())
    before.backward()
    after, _ = Adversarial().student_term(roles, (z - 5 * z.grad).detach().requires_grad_(), clips, draws())
    assert float(after.detach()) < float(before.detach())


# ---- distribution matching ----------------------------------------------------------------------------------------


def matching_gradient(divergence="reverse_kl", **settings):
    """d loss / dz of a term, its meters, and all it was computed from."""
    roles, clips = roles_for(RECIPES["fvgen_stage2"]), batch()
    perturb(roles.fake_score)
    z = torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(3)).requires_grad_()
    term = DistributionMatching(divergence, **settings)
    loss, meters = term.student_term(roles, z, clips, draws(), Adversarial())
    loss.backward()
    return z.grad, meters, roles, clips, z.detach()


def test_the_matching_gradient_is_dmds_with_the_guided_teacher():
    """Written out once more from the equations, with dynamic rescale, guidance 7.5 and its rescale 0.7."""
    gradient, _, roles, clips, z = matching_gradient()
    schedule, random = roles.schedule, draws()
    t = 20 + random.randint(0, 960)
    x_t = noised(schedule, z, random.randn_like(z), t)
    sample = torch.cat([x_t, clips.conditions.render_latents], dim=2)
    with torch.no_grad():
        cond = roles.teacher(sample, t, clips.conditions.tokens, clips.conditions.fps).sample
        uncond = roles.teacher(sample, t, clips.conditions.unconditional_tokens, clips.conditions.fps).sample
        fake = roles.fake_score(sample, t, clips.conditions.tokens, clips.conditions.fps).sample
    scale = schedule.scale_arr[t].reshape(-1, 1, 1, 1, 1)
    z_real = schedule.to_x0(guide(cond, uncond, 7.5, 0.7), x_t, t) / scale
    z_fake = schedule.to_x0(fake, x_t, t) / scale
    weight = 1 / (z - z_real).abs().mean((1, 2, 3, 4), keepdim=True)
    torch.testing.assert_close(gradient, weight * (z_fake - z_real) / z.numel(), rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in DIVERGENCES if name != "reverse_kl"])
def test_a_divergence_weighs_each_clips_gradient_by_h(name):
    plain = matching_gradient("reverse_kl")[0]
    weighted, meters, roles, clips, z = matching_gradient(name)
    h = DIVERGENCES[name].h(meters["r"])
    torch.testing.assert_close(weighted, plain * h.reshape(-1, 1, 1, 1, 1), rtol=1e-3, atol=1e-9)
    random = draws()
    t = 20 + random.randint(0, 960)
    with torch.no_grad():
        x_t = noised(roles.schedule, z, random.randn_like(z), t)
        logits = Adversarial().logits(roles, x_t, t, clips.conditions)
    torch.testing.assert_close(meters["r"], logits.exp().clamp(0.1, 20), rtol=1e-4, atol=0)
    assert meters["r"].std() > 0.01


def test_the_ratio_costs_no_pass_of_its_own():
    """Its features come along with the teacher's conditional prediction: two calls with guidance, one without."""
    roles, clips = roles_for(RECIPES["fvgen_stage2"]), batch()
    calls = []
    roles.teacher.register_forward_hook(lambda *_: calls.append(1))
    DistributionMatching().student_term(roles, clips.latents.requires_grad_(), clips, draws(), Adversarial())
    assert len(calls) == 2


def test_plain_reverse_kl_asks_no_discriminator():
    objective = FVGenStage2(matching=DistributionMatching("reverse_kl"))
    assert set(objective.needs) == {"student", "teacher", "fake_score"} == {"teacher", *objective.trains}
    values = objective.student_loss(roles_for(objective), batch(), draws())
    assert "r" not in values and values["loss"].isfinite()


def test_the_discriminator_is_trained_on_in_one_of_so_many_updates():
    objective = FVGenStage2(discriminator_every=2)
    roles, clips = roles_for(objective), batch(1)
    trained = sum("discriminator" in objective.critic_loss(roles, clips, draws(1, step)) for step in range(16))
    assert 3 <= trained <= 13  # 8 expected, 2 the deviation


def test_the_fake_score_learns_the_students_clips():
    """Its loss on them falls under the untrained one's, and at their own noise levels."""
    objective = RECIPES["fvgen_stage2"]
    roles, clips = roles_for(objective), batch()
    optimizer = torch.optim.AdamW(roles.fake_score.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        loss = objective.critic_loss(roles, clips, draws(step=step % 3))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


# ---- causvid ------------------------------------------------------------------------------------------------------


def test_ode_pairs_lie_on_one_way_of_the_teachers_sampler():
    """From N(m, s²) the ODE's map is known: it keeps order and ends with the data's mean and deviation."""
    schedule, count = NoiseSchedule(base_scale=0.7), 512
    teacher = Exact(schedule, gaussian(0.8, 0.5), gaussian(0.0, 1.0))
    roles = Roles(schedule, student=teacher, teacher=teacher)
    objective = CausVidRegression(teacher_steps=500, guidance_scale=1.0)
    x_T = torch.randn(count, 1, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    points, sample = objective.trajectory(roles, numbers(count), x_T)
    assert points.shape == (4, count, 1, 1, 1, 1) and torch.equal(points[0], x_T)
    # 500 first-order steps, largest where all is noise: within some hundredths of the exact map m + s·x_T
    torch.testing.assert_close(sample, 0.8 + 0.5 * x_T, rtol=0, atol=0.05)
    for point, t in zip(points, objective.timesteps, strict=True):
        signal, noise, scale = (
            float(table[t])
            for table in (schedule.sqrt_alphas_cumprod, schedule.sqrt_one_minus_alphas_cumprod, schedule.scale_arr)
        )
        deviation = ((signal * scale * 0.5) ** 2 + noise**2) ** 0.5
        torch.testing.assert_close(point, signal * scale * 0.8 + deviation * x_T, rtol=0, atol=0.05)


def test_regression_asks_the_student_at_points_of_the_way_and_compares_with_its_end():
    objective = CausVidRegression(teacher_steps=4)
    roles, clips = roles_for(objective), batch()
    calls = []
    roles.student.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[:2]))
    values = objective.student_loss(roles, clips, draws())
    ((sample, t),) = calls
    random = draws()
    points, target = objective.trajectory(roles, clips, random.randn_like(clips.latents))
    which = random.randint(0, 4)
    assert torch.equal(t, torch.tensor(objective.timesteps)[which])
    assert torch.equal(sample[:, :, :3], points[which, torch.arange(2)])
    expected = (values["generated"] - target).square().mean()
    assert float(values["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)


def test_causvids_guidance_counts_from_zero():
    """cond + 3.5·(cond - uncond) is our scale 4.5."""
    cond, uncond = torch.randn(2, 1, 3)
    scale = CausVid().matching.guidance_scale
    torch.testing.assert_close(guide(cond, uncond, scale), cond + 3.5 * (cond - uncond))


def test_causvid_has_no_discriminator_to_weigh_by():
    with pytest.raises(InputError, match=r"divergence must be reverse_kl.*got js"):
        CausVid(matching=DistributionMatching("js"))


# ---- avdm2 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
def test_frame_matching_pulls_on_k_frames_of_each_clip(conditional):
    objective = RECIPES["avdm2"]
    roles, clips = roles_for(objective, frame_teacher=frame_teacher(conditional)), batch()
    perturb(roles.frame_fake_score)
    z = torch.randn_like(clips.latents).requires_grad_()
    term = FrameMatching(frames=2, text_tokens=2 if conditional else 0)
    loss, _ = term.student_term(roles, z, clips, draws())
    loss.backward()
    pulled = (z.grad.abs().sum((2, 3, 4)) > 0).sum(1)
    assert pulled.tolist() == [2, 2]


def test_frame_noise_levels_and_tokens():
    objective = RECIPES["avdm2"]
    roles, clips = roles_for(objective), batch()
    calls = []
    roles.frame_teacher.register_forward_pre_hook(
        lambda module, inputs, named: calls.append((inputs[1], named["encoder_hidden_states"])), with_kwargs=True
    )
    for step in range(40):
        FrameMatching(frames=3, text_tokens=2).student_term(roles, clips.latents, clips, draws(step=step))
    levels = torch.cat([t for t, _ in calls])
    assert 200 <= int(levels.min()) < 300 and 900 < int(levels.max()) <= 979
    tokens = clips.conditions.tokens[:, :2]
    assert all(torch.equal(given, tokens.repeat_interleave(3, dim=0)) for _, given in calls)


def test_more_frames_than_a_clip_has_are_all_of_them():
    objective = RECIPES["avdm2"]
    roles, clips = roles_for(objective), batch()
    perturb(roles.frame_fake_score)
    z = clips.latents.clone().requires_grad_()
    FrameMatching(frames=99, text_tokens=2).student_term(roles, z, clips, draws())[0].backward()
    assert (z.grad.abs().sum((2, 3, 4)) > 0).all()


def test_avdm2_tells_clips_apart_at_low_noise_by_several_resolutions():
    objective = RECIPES["avdm2"]
    assert objective.adversarial.t_range == (0.0, 0.5) and objective.critic_steps == 2
    roles = roles_for(objective)
    assert roles.discriminator.config.feature_channels == (8, 16)  # a network of two resolutions has two


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
