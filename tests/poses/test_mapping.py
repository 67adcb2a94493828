from __future__ import annotations

import pytest

from fvgen.poses.mapping import MappingCameras, run_mapper
from fvgen.poses.two_view import verify


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
