from dataclasses import is_dataclass, replace

import pytest
import torch

from fvgen.checks import InputError
from fvgen.geometry.capture_depth import CaptureDepth, completed
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.geometry.points import depth_to_points
from fvgen.geometry.provider import GEOMETRY_PROVIDERS, AutoGeometry


@pytest.mark.parametrize(
    "name", [name for name in GEOMETRY_PROVIDERS if not name.startswith("dust3r")]
)  # see test_dust3r.py
def test_every_provider_is_its_own_config_and_keeps_the_contract(name, exact_capture):
    provider = GEOMETRY_PROVIDERS[name]()
    assert is_dataclass(provider)
    geometry = provider.reconstruct(exact_capture)
    assert geometry.depths.shape == exact_capture.depths.shape
    assert torch.equal(geometry.confidences > 0, geometry.depths > 0)
    assert 0 < float(geometry.confidences.max()) <= 1
    known = geometry.depths > 0
    assert float(((geometry.depths - exact_capture.depths).abs() / exact_capture.depths)[known].median()) < 0.01
    cloud = depth_to_points(exact_capture.photos, exact_capture.cameras, geometry.depths, geometry.confidences)
    assert torch.equal(cloud.xyz, geometry.points.xyz) and torch.equal(cloud.rgb, geometry.points.rgb)


def test_auto_takes_measured_depth_when_there_is_enough(exact_capture):
    auto = AutoGeometry()
    few = torch.zeros_like(exact_capture.depths)
    few[:, 0, 0] = 5.0
    assert auto.has_measured(exact_capture)
    assert not auto.has_measured(replace(exact_capture, depths=few))
    assert not auto.has_measured(replace(exact_capture, depths=None))


def test_auto_completes_what_the_sensor_left_empty(exact_capture):
    exact = exact_capture.depths
    capture = replace(exact_capture, depths=exact.clone())
    capture.depths[:, :, :48] = 0
    measured = CaptureDepth().reconstruct(capture)
    geometry = AutoGeometry(plane_sweep=PlaneSweep(hypotheses=64)).reconstruct(capture)
    known = measured.depths > 0
    assert torch.equal(geometry.depths[known], measured.depths[known])
    left = geometry.depths[:, :, :40]
    assert float((left > 0).float().mean()) > 0.4
    error = ((left - exact[:, :, :40]).abs() / exact[:, :, :40])[left > 0]
    assert float(error.median()) < 0.01


def test_an_estimate_that_the_sensor_looks_through_is_left_out(exact_capture):
    capture = replace(exact_capture, depths=exact_capture.depths.clone())
    capture.depths[0, 30:45, 40:60] = 0
    measured = CaptureDepth().reconstruct(capture)
    estimated = replace(measured, depths=exact_capture.depths * 0.6, confidences=torch.ones_like(exact_capture.depths))
    empty = measured.depths[0, 30:45, 40:60] == 0
    assert bool(empty.any())
    geometry = completed(measured, estimated, capture)
    assert not bool((geometry.depths[0, 30:45, 40:60] > 0)[empty].any())
    assert torch.equal(geometry.confidences > 0, geometry.depths > 0)


def test_measured_depth_is_kept_as_it_is_where_it_is_right(exact_capture):
    geometry = CaptureDepth().reconstruct(exact_capture)
    known = geometry.depths > 0
    assert float(known.float().mean()) > 0.95
    assert torch.equal(geometry.depths[known], exact_capture.depths[known])


def test_measured_depth_at_odds_with_the_others_is_dropped(exact_capture):
    depths = exact_capture.depths.clone()
    patch = (0, slice(30, 45), slice(40, 60))
    depths[patch] *= 0.6  # a ghost in front of the surface, which the other two cameras look through
    geometry = CaptureDepth().reconstruct(replace(exact_capture, depths=depths))
    assert float((geometry.depths[patch] > 0).float().mean()) < 0.05
    assert float((geometry.depths > 0).float().mean()) > 0.9


def test_the_grid_of_gaps_that_registration_leaves_is_closed(exact_capture):
    depths = exact_capture.depths.clone()
    depths[:, ::4] = 0
    depths[:, :, ::3] = 0
    geometry = CaptureDepth().reconstruct(replace(exact_capture, depths=depths))
    known = geometry.depths > 0
    assert float(known.float().mean()) > 0.85
    error = ((geometry.depths - exact_capture.depths).abs() / exact_capture.depths)[known]
    assert float(error.quantile(0.99)) < 0.02


def test_masked_pixels_lose_their_measured_depth(exact_capture):
    valid = exact_capture.valid.clone()
    valid[:, :40] = False
    geometry = CaptureDepth().reconstruct(replace(exact_capture, valid=valid))
    assert not bool((geometry.depths > 0)[:, :40].any())


def test_capture_depth_refuses_a_capture_without_depth(exact_capture):
    with pytest.raises(InputError, match="come with measured depth"):
        CaptureDepth().reconstruct(replace(exact_capture, depths=None))
