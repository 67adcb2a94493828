"""Which photos are matched with which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from fvgen.poses.two_view import Pair

ALL_PAIRS_UP_TO = 8
"""Photos that are all matched with each other."""
_PARTNERS = 5
"""Photos that each one is matched with where there are more."""
_IN_ORDER = 2
"""Number of these that are the next ones by name, for photos are mostly taken one after the other."""


def choose_pairs(thumbnails: Sequence[np.ndarray]) -> list[Pair]:
    """Pairs (first, second), first < second, in order.

    Args:
        thumbnails: one per photo, in the order of their names, of one size.
    """
    count = len(thumbnails)
    if count <= ALL_PAIRS_UP_TO:
        return list(itertools.combinations(range(count), 2))
    alike = _similarity(thumbnails)
    chosen = {(i, j) for i in range(count) for j in range(i + 1, min(i + 1 + _IN_ORDER, count))}
    for i in range(count):
        for j in np.argsort(-alike[i], kind="stable"):
            if sum(i in pair for pair in chosen) >= _PARTNERS:
                break
            if int(j) != i:
                chosen.add((min(i, int(j)), max(i, int(j))))
    return sorted(chosen)


def _similarity(thumbnails: Sequence[np.ndarray]) -> np.ndarray:
    """[V, V] correlation of the thumbnails, brightness and contrast taken out."""
    flat = np.stack([thumbnail.astype(np.float64).ravel() for thumbnail in thumbnails])
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9
    return flat @ flat.T
