import pytest
import torch

from fvgen_ns.splat.opacity_dropout import drop


@pytest.mark.parametrize(("share", "opacity"), [(0.05, 0.5), (0.2, 0.4), (0.5, 0.05), (0.9, 0.09)])
def test_the_asked_share_is_left_out_and_the_mean_stays(share, opacity):
    torch.manual_seed(0)
    opacities = torch.full((20_000,), opacity)
    left = drop(opacities, share)
    assert abs(float((left == 0).float().mean()) - share) < 0.02
    torch.testing.assert_close(left.mean(), opacities.mean(), rtol=0.1, atol=0)


def test_opacities_stay_opacities_and_gradients_reach_the_kept():
    opacities = torch.linspace(0.01, 1, 1000, requires_grad=True)
    left = drop(opacities, 0.5)
    assert ((left >= 0) & (left < 1)).all()
    left.sum().backward()
    at_most = (opacities > 0.499) & (left > 0)  # clamped: kept, but it cannot grow
    assert torch.equal(opacities.grad, torch.where((left > 0) & ~at_most, 2.0, 0.0))


def test_no_share_changes_nothing():
    opacities = torch.rand(100)
    assert torch.equal(drop(opacities, 0), opacities)
