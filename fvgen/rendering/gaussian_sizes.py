"""How large Gaussians start, from the density of the points around them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def neighbour_distance(points: Tensor, neighbours: int = 3) -> Tensor:
    """[N] mean distance of each of the [N, 3] points to its nearest neighbours.

    Points that coincide get a tenth of the typical distance, so that none starts without size. Lonely points keep their
    large one: they are what stands in for all that the dense cloud left empty.
    """
    from scipy.spatial import cKDTree

    if len(points) < 2:
        return torch.full((len(points),), 0.01)
    array = points.detach().cpu().numpy()
    distances, _ = cKDTree(array).query(array, k=min(neighbours, len(points) - 1) + 1)
    mean = distances[:, 1:].mean(axis=1)
    return torch.from_numpy(np.maximum(mean, max(0.1 * float(np.median(mean)), 1e-6))).float()
