from __future__ import annotations

import numpy as np
import pytest
import torch

from fvgen.poses.features import MATCHERS
from fvgen.poses.look import look_at_photos
from fvgen.poses.mapping import MappingCameras, run_mapper
from fvgen.poses.over_photos import for_all
from fvgen.poses.two_view import verify
from fvgen.types import no_progress


@pytest.mark.parametrize("focal", [0.7, 0.9, 1.2, 1.8])
@pytest.mark.parametrize("chosen", [(0, 1), (0, 2), (0, 1, 2)])
def test_a_fixed_focal_length_stays_whatever_the_matches_say(room_photos, stored, chosen, focal):
    known = [room_photos[i] for i in chosen]
    _, matcher = stored(known)
    features = [matcher.extract(photo.rgb) for photo in known]
    points = [found.xy * 1024 / 240 for found in features]
    cameras = MappingCameras((0,) * len(known), (focal,), (False,), (1024 * 160 / 240,), fixed=True)
    matches = {(0, i): matcher.match(features[0], features[i]) for i in range(1, len(known))}
    model = run_mapper(points, verify(points, [cameras.build(0)] * len(known), matches), cameras)
    assert model is not None
    assert [lens.focal for lens in model.lenses.values()] == pytest.approx([1024 * focal] * len(model.placed))


@pytest.mark.slow
def test_learned_matches_do_not_depend_on_the_number_of_threads(room_photos, stored):
    photos, _ = stored(room_photos[:3])
    matcher, before = MATCHERS["aliked"](), torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        looks, _ = look_at_photos(photos, matcher, None, no_progress)
        matches: dict[int, np.ndarray] = {}

        def match(i, looks=looks, matches=matches):
            matches[i] = matcher.match(looks[i].features, looks[i + 1].features)

        for_all(match, 2, matcher, 2, "matching", no_progress)
        found.append((looks, matches))
    torch.set_num_threads(before)
    (one_looks, one), (two_looks, two) = found
    assert all(np.array_equal(one_looks[i].points, two_looks[i].points) for i in range(3))
    assert all(len(one[i]) > 20 and np.array_equal(one[i], two[i]) for i in range(2))
