"""Stage 2's gradient with exact scores and exact r is the gradient of the divergence itself, in one dimension.

The reference uses no scores: it differentiates E_fake[f(p_real / p_fake)] through samples and densities, by
Monte Carlo and, without sampling error, by quadrature.
"""

from __future__ import annotations

import pytest
import torch
from exact_scores import AffineStudent, Exact, ExactLogit, Mixture, OneStream, gaussian, levels, numbers
from torch import Tensor

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.density_ratio import DensityRatio
from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.distribution_matching import DistributionMatching
from fvgen.distillation.objectives.fvgen_stage2 import FVGenStage2
from fvgen.distillation.roles import Roles

A, B = 0.3, 0.7
"""The student: z = A + B·noise."""
CLIPS, REPEATS = 20_000, 10
DEVIATIONS = 4.0
"""A mean of 10 runs lies further than this many of its standard errors from the truth once in 16,000."""
TEACHER = Mixture(torch.tensor([0.6, 0.4]), torch.tensor([-0.5, 1.2]), torch.tensor([0.5, 0.6]))
EXACT = [name for name, divergence in DIVERGENCES.items() if divergence.f is not None]


@pytest.fixture(scope="module")
def schedule() -> NoiseSchedule:
    return NoiseSchedule(base_scale=0.7)


def student_density(a: Tensor, b: Tensor) -> Mixture:
    return gaussian(a, b)


def monte_carlo_gradient(schedule, name: str, real: Mixture, t: int, seed: int) -> Tensor:
    """d/d(a, b) of the mean of f(r) over samples, by autograd."""
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (A, B))
    g = torch.Generator().manual_seed(seed)
    eps, more = torch.randn(2, CLIPS, generator=g, dtype=torch.float64)
    signal, noise, scale = (level.double() for level in levels(schedule, torch.full((CLIPS,), t)))
    x = signal * scale * (a + b * eps) + noise * more
    ratio = real.log_density(x, signal * scale, noise) - student_density(a, b).log_density(x, signal * scale, noise)
    return torch.stack(torch.autograd.grad(DIVERGENCES[name].f(ratio.exp()).mean(), (a, b)))


def exact_gradient(schedule, name: str, real: Mixture, t: int) -> Tensor:
    """d/d(a, b) of the integral of p_fake·f(r), on a grid fine and wide enough for 1e-6."""
    a, b = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (A, B))
    x = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    signal, noise, scale = (level.double() for level in levels(schedule, torch.full((len(x),), t)))
    fake = student_density(a, b).log_density(x, signal * scale, noise)
    ratio = (real.log_density(x, signal * scale, noise) - fake).exp()
    total = torch.trapezoid(fake.exp() * DIVERGENCES[name].f(ratio), x)
    return torch.stack(torch.autograd.grad(total, (a, b)))


def objective_gradient(schedule, name, real, t, seed, teacher=None, guidance_scale=1.0) -> Tensor:
    """d/d(a, b) of the loss that stage 2 descends."""
    student = AffineStudent(schedule, A, B)
    fake = gaussian(A, B)
    share = t / (schedule.num_train_timesteps - 1)
    objective = FVGenStage2(
        timesteps=(999,),
        matching=DistributionMatching(
            name, guidance_scale=guidance_scale, guidance_rescale=0.0, t_range=(share, share), weighting="score"
        ),
    )
    roles = Roles(
        schedule,
        student,
        teacher or Exact(schedule, real),
        Exact(schedule, fake),
        ExactLogit(schedule, real, fake),
        DensityRatio(ratio_range=(1e-9, 1e9)),
    )
    loss = objective.student_loss(roles, numbers(CLIPS), OneStream(seed, CLIPS))["loss"]
    loss.backward()
    return torch.stack([student.a.grad, student.b.grad]).double()


def mean_and_error(gradients: list[Tensor]) -> tuple[Tensor, Tensor]:
    stacked = torch.stack(gradients)
    return stacked.mean(0), stacked.std(0) / len(stacked) ** 0.5


@pytest.mark.parametrize("t", [250, 700])  # 0.81 and 0.7 of dynamic rescale
@pytest.mark.parametrize("name", EXACT)
def test_the_gradient_is_the_divergences_own(schedule, name, t):
    found, error = mean_and_error([objective_gradient(schedule, name, TEACHER, t, seed) for seed in range(REPEATS)])
    exact = exact_gradient(schedule, name, TEACHER, t)
    assert ((found - exact).abs() < DEVIATIONS * error).all(), (found, exact, error)
    assert (exact.abs() > 10 * error).all()  # not by being lost in noise

    sampled, more = mean_and_error([monte_carlo_gradient(schedule, name, TEACHER, t, 100 + s) for s in range(REPEATS)])
    assert ((found - sampled).abs() < DEVIATIONS * (error**2 + more**2).sqrt()).all(), (found, sampled)


@pytest.mark.parametrize("name", EXACT)
def test_guidance_moves_the_target_as_it_should(schedule, name):
    """Scores of N(m, s²) guided with scale w are those of N(m_u + w·(m_c - m_u), s²), at every noise level."""
    deviation, uncond, cond, w = 0.6, 0.8, 0.2, 2.5
    guided = gaussian(uncond + w * (cond - uncond), deviation)
    teacher = Exact(schedule, gaussian(cond, deviation), gaussian(uncond, deviation))
    found, error = mean_and_error(
        [objective_gradient(schedule, name, guided, 500, s, teacher, guidance_scale=w) for s in range(REPEATS)]
    )
    exact = exact_gradient(schedule, name, guided, 500)
    assert ((found - exact).abs() < DEVIATIONS * error).all(), (found, exact, error)
    unguided = exact_gradient(schedule, name, gaussian(cond, deviation), 500)
    assert ((found - unguided)[0].abs() > 10 * error[0]).all()


def test_descending_it_brings_the_student_to_the_teacher(schedule):
    """Signs: the gradient by a pulls the student's mean up when the teacher's is above."""
    gradient = objective_gradient(schedule, "reverse_kl", gaussian(2.0, B), 500, 0)
    assert gradient[0] < 0


def test_the_papers_equation_8_is_not_the_softened_divergences_gradient(schedule):
    gradients = [objective_gradient(schedule, "paper_eq8", TEACHER, 250, seed) for seed in range(REPEATS)]
    found, error = mean_and_error(gradients)
    exact = exact_gradient(schedule, "softened_reverse_kl", TEACHER, 250)
    assert ((found - exact).abs() > 10 * error).any()
