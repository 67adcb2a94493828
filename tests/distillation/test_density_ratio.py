"""r from logits, and weights over a running mean that no split of a batch changes."""

from __future__ import annotations

import math

import pytest
import torch

from fvgen.checks import InputError
from fvgen.distillation.density_ratio import DensityRatio


def alone(x):
    return x


def test_the_ratio_is_the_logits_exponential_within_bounds():
    ratio = DensityRatio()
    logits = torch.tensor([-50.0, -10, -1, 0, 2, 10, 50])
    expected = [0.1, 0.1, math.exp(-1), 1, math.exp(2), 20, 20]
    torch.testing.assert_close(ratio(logits), torch.tensor(expected))
    wide = DensityRatio(ratio_range=(1e-9, 1e9))
    torch.testing.assert_close(wide(logits[[1, -2]]), torch.tensor([math.exp(-10), math.exp(10)]))


def test_an_infinite_or_half_precision_logit_gives_a_finite_float32():
    r = DensityRatio()(torch.tensor([float("inf"), float("-inf"), 3.0], dtype=torch.bfloat16))
    assert r.dtype == torch.float32 and r.isfinite().all()


def test_one_clip_at_a_time_keeps_its_weight():
    """Over the mean of its own batch every weight would be 1."""
    ratio = DensityRatio()
    for h in (0.2, 0.4):
        ratio.normalise(torch.tensor([h]))
        ratio.end_of_update(alone)
    assert float(ratio.mean) == pytest.approx(0.3)
    assert float(ratio.normalise(torch.tensor([0.6]))) == pytest.approx(2.0)


def test_the_mean_stands_still_within_an_update():
    ratio = DensityRatio()
    h = torch.tensor([0.1, 0.9, 0.5, 0.3])
    whole = ratio.normalise(h)
    parts = torch.cat([ratio.normalise(part) for part in h.split(1)])
    assert torch.equal(whole, parts) and float(ratio.mean) == 1


def test_splits_over_micro_batches_and_processes_give_the_same_mean():
    h = torch.tensor([0.1, 0.9, 0.5, 0.3])
    one = DensityRatio()
    one.normalise(h)
    one.end_of_update(alone)
    two = DensityRatio()
    two.normalise(h[:1])
    other_process = torch.tensor([float(h[1:].double().sum()), 3.0], dtype=torch.float64)
    two.end_of_update(lambda seen: seen + other_process)
    assert float(one.mean) == pytest.approx(float(h.mean())) and torch.allclose(one.mean, two.mean)


def test_old_updates_fade():
    ratio = DensityRatio(decay=0.9)
    for value in [0.0] * 50 + [1.0] * 50:
        ratio.normalise(torch.tensor([value]))
        ratio.end_of_update(alone)
    assert float(ratio.mean) == pytest.approx(1 - 0.9**50, abs=1e-5)


def test_an_update_that_saw_nothing_changes_nothing():
    ratio = DensityRatio()
    ratio.end_of_update(alone)
    assert float(ratio.mean) == 1 and int(ratio.updates) == 0


def test_the_mean_resumes_and_nothing_else_is_kept():
    ratio = DensityRatio()
    ratio.normalise(torch.tensor([0.25]))
    ratio.end_of_update(alone)
    again = DensityRatio()
    again.load_state_dict(ratio.state_dict())
    assert set(ratio.state_dict()) == {"mean", "updates"} and float(again.mean) == 0.25
    for one in (ratio, again):
        one.normalise(torch.tensor([0.75]))
        one.end_of_update(alone)
    assert float(again.mean) == float(ratio.mean) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ratio_range": (0.0, 20.0)}, "ratio_range must be positive and hold 1"),
        ({"decay": 1.0}, "decay must lie in"),
    ],
)
def test_bad_settings_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        DensityRatio(**settings)
