"""Every divergence's weight is r²·f''(r) of its generator, and its generator is a divergence's."""

from __future__ import annotations

import math

import pytest
import torch

from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.distribution_matching import DistributionMatching

NAMES = ("reverse_kl", "softened_reverse_kl", "js", "squared_hellinger", "forward_kl", "jeffreys", "paper_eq8")
EXACT = [name for name in NAMES if name != "paper_eq8"]
RATIOS = torch.logspace(-3, 3, 61, dtype=torch.float64)


def test_the_family_is_complete():
    assert tuple(DIVERGENCES) == NAMES


@pytest.mark.parametrize("name", EXACT)
def test_the_weight_is_r_squared_times_the_second_derivative(name):
    divergence = DIVERGENCES[name]
    r = RATIOS.clone().requires_grad_()
    (first,) = torch.autograd.grad(divergence.f(r).sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    torch.testing.assert_close(divergence.h(RATIOS), RATIOS**2 * second, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", EXACT)
def test_the_generator_is_zero_at_equality_and_convex(name):
    f = DIVERGENCES[name].f
    assert float(f(torch.ones((), dtype=torch.float64))) == pytest.approx(0, abs=1e-12)
    a, b = RATIOS[:-1], RATIOS[1:]
    assert (f((a + b) / 2) <= (f(a) + f(b)) / 2 + 1e-12).all()


def test_the_softened_divergence_is_its_definition():
    """Twice KL(½p + ½q || p), with p and q two distributions over three things."""
    p, q = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64)
    mixture = (p + q) / 2
    expected = 2 * (mixture * torch.log(mixture / p)).sum()
    assert float((q * DIVERGENCES["softened_reverse_kl"].f(p / q)).sum()) == pytest.approx(float(expected))


def test_the_softened_weight_is_a_sigmoid_of_the_logit_and_the_papers_is_unbounded():
    logits = torch.linspace(-8, 8, 33, dtype=torch.float64)
    torch.testing.assert_close(DIVERGENCES["softened_reverse_kl"].h(logits.exp()), torch.sigmoid(-logits))
    eq8 = DIVERGENCES["paper_eq8"]
    assert eq8.f is None and float(eq8.h(torch.tensor(math.exp(-8)))) > 2900


def test_only_a_constant_weight_needs_no_ratio():
    for divergence in DIVERGENCES.values():
        weights = divergence.h(RATIOS)
        assert divergence.needs_ratio == (not torch.equal(weights, torch.ones_like(weights)))


def test_an_unknown_name_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"divergence must be one of .*softened_reverse_kl.*, got chi"):
        DistributionMatching("chi")  # type: ignore[arg-type]
