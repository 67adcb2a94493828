"""Confidence falls with everything that makes a pixel wrong, and never to zero."""

from __future__ import annotations

import torch

from fvgen.generation.confidence import IN_HOLES, cover_distance, pixel_confidence, view_confidence


def confidence(covered=True, disagreement=0.0, seen=1.0, points=1.0, away=1.0) -> float:
    """Of a pixel in the middle of a 21x21 picture whose left column is covered."""
    mask = torch.zeros(1, 1, 21, 21, dtype=torch.bool)
    mask[..., 0] = True
    mask[..., 10, 10] = covered
    full = [torch.full((1, 1, 21, 21), value) for value in (disagreement, seen, points)]
    return float(pixel_confidence(mask, *full, away)[0, 0, 10, 10])


def test_a_perfect_pixel_is_fully_trusted():
    assert confidence() == 1


def test_trust_falls_with_each_reason_for_doubt():
    assert confidence() > confidence(points=0.5) > confidence(covered=False) > 0
    assert confidence() > confidence(disagreement=0.1) > confidence(disagreement=0.3)
    assert 1 >= confidence(covered=False, away=0.0) > confidence(covered=False, away=0.5) > confidence(covered=False)
    assert confidence() > confidence(seen=0.5) > confidence(seen=0.0)


def test_trust_never_vanishes():
    assert confidence(covered=False, disagreement=1.0, seen=0.0, points=0.0) == torch.tensor(IN_HOLES)
    nothing = torch.zeros(1, 1, 5, 5)
    assert (pixel_confidence(nothing.bool(), nothing, nothing, nothing) == IN_HOLES).all()


def test_distance_to_the_cover_is_a_share_of_the_diagonal():
    mask = torch.zeros(2, 1, 30, 40, dtype=torch.bool)
    mask[0, 0, :, 0] = True
    distance = cover_distance(mask)
    torch.testing.assert_close(distance[0, 0, 3], torch.arange(40) / 50, atol=0.01, rtol=0)
    assert (distance[1] == 1).all()


def test_view_confidence_is_the_mean():
    maps = torch.rand(3, 1, 4, 5)
    torch.testing.assert_close(view_confidence(maps), maps.flatten(1).mean(1))
