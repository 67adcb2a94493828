"""First points of a splat, triangulated from the training photos at given poses."""

import numpy as np
import torch

from fvgen.evaluation.first_points import match_points
from fvgen.geometry.cameras import project
from fvgen.poses.features import Features
from fvgen.types import Cameras

K = np.array([[60.0, 0, 40], [0, 60, 30], [0, 0, 1]])


class KnownMatches:
    """Sees every point of a scene in every photo; one match in ten is wrong."""

    def __init__(self, places):
        self.places = iter(places)

    def extract(self, photo):
        return Features(next(self.places), None)

    def match(self, first, second):
        pairs = np.stack([np.arange(len(first)), np.arange(len(second))], axis=1)
        pairs[::10, 1] = np.roll(pairs[::10, 1], 1)
        return pairs


def test_right_matches_become_points_and_wrong_ones_do_not(monkeypatch):
    rng = np.random.default_rng(0)
    xyz = rng.uniform([-1, -1, 4], [1, 1, 6], (100, 3))
    poses = [np.eye(4) for _ in range(2)]
    poses[1][0, 3] = 1.0
    cameras = Cameras(torch.tensor(np.stack(poses)), torch.tensor(np.stack([K, K])), 60, 80)
    places = project(torch.from_numpy(xyz), cameras)[0].numpy()
    monkeypatch.setattr("fvgen.evaluation.first_points.MATCHERS", {"sift": lambda: KnownMatches(places)})
    photos = [np.full((60, 80, 3), 128, dtype=np.uint8)] * 2
    points = match_points(photos, poses, [K, K], "sift")
    distance = np.linalg.norm(points.xyz.numpy()[:, None] - xyz, axis=2).min(axis=1)
    assert 90 <= len(points) < 100
    assert (distance < 1e-6).sum() == 90
    assert np.allclose(points.rgb, 128 / 255)
