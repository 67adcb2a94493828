"""Terms of the recipes: adversarial, distribution matching, regression on the ODE, matching of frames."""

from __future__ import annotations

import pytest
import torch
from exact_scores import Exact, gaussian, numbers
from tiny_networks import RECIPES, batch, draws, frame_teacher, perturb, roles_for

from fvgen.checks import InputError
from fvgen.diffusion.guidance import guide
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.causvid import CausVid, CausVidRegression
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.draws import noised
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.roles import Roles

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
