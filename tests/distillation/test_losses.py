"""Losses against what they stand for."""

from __future__ import annotations

import math

import pytest
import torch

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.losses import (
    approximated_r1,
    diffusion_loss,
    discriminator_loss,
    distribution_matching_loss,
    dmd_normaliser,
    generator_loss,
    gradient_only_into,
)


def test_the_best_logit_is_the_log_ratio():
    """For a discriminator with one free logit for each of two things, seen 3:1 and 1:3."""
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = discriminator_loss(logits[[0, 0, 0, 1]], logits[[0, 1, 1, 1]])
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(
        logits.detach().exp(), torch.tensor([3.0, 1 / 3], dtype=torch.float64), rtol=1e-3, atol=0
    )


def test_logistic_losses_at_zero_and_far_away():
    zero, far = torch.zeros(3), torch.full((3,), 1e4)
    assert float(discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    assert float(generator_loss(zero)) == pytest.approx(math.log(2))
    assert float(generator_loss(-far)) == pytest.approx(1e4) and float(generator_loss(far)) == 0
    logit = (-far).requires_grad_()
    generator_loss(logit).backward()
    assert torch.allclose(logit.grad, torch.full((3,), -1 / 3))  # does not saturate at high confidence


def test_approximated_r1_is_the_gradients_square_for_small_noise():
    torch.manual_seed(0)
    x, direction, sigma = torch.randn(20_000, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64), 1e-3
    found = approximated_r1((x @ direction).float(), ((x + sigma * torch.randn_like(x)) @ direction).float())
    # 1.4 % standard error of a mean of 20,000 squares, times 4
    assert float(found) == pytest.approx(float(sigma**2 * direction.square().sum()), rel=0.04)


@pytest.mark.parametrize("kind", ["v", "epsilon", "x0"])
def test_the_diffusion_loss_is_the_error_of_what_the_network_predicts(kind):
    schedule = NoiseSchedule(base_scale=0.7)
    torch.manual_seed(0)
    z, eps = torch.randn(2, 6, 4, 3, 5, 5)
    t = torch.tensor([5, 200, 480, 700, 900, 998 if kind == "epsilon" else 999])
    x0 = schedule.scale_latents(z, t)
    x_t = schedule.add_noise(x0, eps, t)
    truth = {"v": schedule.to_v(x0, eps, t), "epsilon": eps, "x0": x0}[kind]
    output = truth + 0.1 * torch.randn_like(truth)
    found = diffusion_loss(schedule.to_x0(output, x_t, t, kind), x0, t, schedule, kind)
    assert float(found) == pytest.approx(float((output - truth).square().mean()), rel=1e-3)


def test_the_matching_loss_has_the_gradient_it_promises():
    torch.manual_seed(0)
    z, real, fake = torch.randn(3, 2, 4, 3, 5, 5)
    z.requires_grad_()
    weight = torch.tensor([0.5, 3.0])
    loss = distribution_matching_loss(z, real, fake, weight)
    loss.backward()
    expected = weight[:, None, None, None, None] * (fake - real) / z.numel()
    torch.testing.assert_close(z.grad, expected, rtol=1e-4, atol=1e-8)
    assert float(loss.detach()) == pytest.approx(0.5 * float((expected * z.numel()).square().mean()), rel=1e-4)


def test_a_prediction_that_is_not_finite_shows():
    z, real, fake = torch.randn(3, 2, 4, 3, 5, 5)
    real[0, 0, 0, 0, 0] = float("nan")
    assert distribution_matching_loss(z.requires_grad_(), real, fake, dmd_normaliser(z, real)).isnan()


def test_the_normaliser_is_per_clip_and_finite_where_teacher_and_student_agree():
    z = torch.randn(3, 4, 3, 5, 5)
    real = z.clone()
    real[0] += 2.0
    real[1] -= 0.5
    weight = dmd_normaliser(z, real)
    torch.testing.assert_close(weight[:2], torch.tensor([0.5, 2.0]), rtol=1e-5, atol=0)
    assert weight[2].isfinite()
    assert float(distribution_matching_loss(z, real, real, weight)) == 0
    torch.testing.assert_close(dmd_normaliser(z[:1], real[:1]), weight[:1])  # others in the batch do not matter


def test_a_gradient_goes_into_the_clip_and_nowhere_else():
    torch.manual_seed(0)
    student, critic = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
    x = torch.randn(5, 3)

    def loss_of(z):
        return critic(z).square().mean()

    expected = torch.autograd.grad(loss_of(student(x)), student.parameters())
    loss = gradient_only_into(student(x), loss_of)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(loss_of(student(x)).detach()))
    assert all(p.grad is None for p in critic.parameters())
    for p, gradient in zip(student.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)
