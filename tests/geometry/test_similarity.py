"""Similarities between the capture's frame and the working one."""

from __future__ import annotations

import numpy as np
import torch

from fvgen.geometry.similarity import Similarity

MOVED = Similarity(np.array([[0.0, -1, 0, 3], [1, 0, 0, -2], [0, 0, 1, 0.5]]), 0.25)


def test_similarity_inverts_itself():
    c2w = np.eye(4)
    c2w[:3, :3] = MOVED.transform[:, :3] @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    c2w[:3, 3] = [1, 2, 3]
    assert np.allclose(MOVED.pose_to_working(MOVED.pose_to_capture(c2w)), c2w)
    xyz = torch.randn(5, 3)
    torch.testing.assert_close(MOVED.points_to_capture(MOVED.points_to_working(xyz)), xyz.double(), atol=1e-5, rtol=0)
