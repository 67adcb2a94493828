import pytest
import torch

from fvgen.geometry.correlation import grey_images
from fvgen.geometry.matching_cost import matching_cost, torch_matching_cost

HYPOTHESES = torch.linspace(0.12, 0.4, 64)


@pytest.mark.parametrize(("neighbours", "best"), [([0], 1), ([0, 2], 2)])
def test_compiled_loops_equal_torch(exact_capture, neighbours, best):
    valid = exact_capture.valid.clone()
    valid[0, 20:24, 30:40] = False  # missing pixels, in neighbour and reference
    valid[1, 50:, :5] = False
    greys, cameras = grey_images(exact_capture.photos, valid), exact_capture.cameras
    compiled, plain = (
        cost(greys, cameras, 1, neighbours, HYPOTHESES, 4, best, -0.2) for cost in (matching_cost, torch_matching_cost)
    )
    assert compiled.shape == (*greys.shape[1:], len(HYPOTHESES))
    assert float((plain < 1).float().mean()) > 0.2
    # where a sample falls onto the last row of pixels, rounding decides whether its windows exist
    assert float(((compiled - plain).abs() > 2e-3).float().mean()) < 2e-3


@pytest.mark.gpu
def test_a_gpu_finds_the_same_costs(exact_capture):
    from fvgen.devices import default_device

    device = default_device()
    greys, cameras = grey_images(exact_capture.photos, exact_capture.valid), exact_capture.cameras
    here = matching_cost(greys, cameras, 1, [0, 2], HYPOTHESES, 4, 1, -0.2)
    there = matching_cost(greys.to(device), cameras.to(device), 1, [0, 2], HYPOTHESES.to(device), 4, 1, -0.2).cpu()
    assert float(((here - there).abs() > 2e-3).float().mean()) < 2e-3
