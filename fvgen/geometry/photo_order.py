"""How much the view changes between cameras, and the order in which a path visits the photos."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fvgen.checks import require
from fvgen.types import Cameras

_EXACT_UP_TO = 12
"""Stops of the tour solved exactly: Held-Karp costs 2^n n^2 steps."""
_CLOSING_TO_LONGEST = 1.5
"""A loop adds no more to the open chain than this many times the chain's longest step."""
_CLOSING_TO_CHAIN = 0.55
"""... and than this share of the chain: coming back along a straight chain adds its whole length."""


def focus_point(cameras: Cameras) -> Tensor:
    """[3] the point that the cameras look at: nearest to all optical axes, in the least-squares sense.

    Where the axes say little (parallel, or meeting behind the cameras) the answer falls back to a point in front of the
    mean camera, at a distance of twice the cameras' extent (1 for cameras in one place).
    """
    position = cameras.positions.double()
    axis = torch.nn.functional.normalize(cameras.c2w[:, :3, 2].double(), dim=1)
    extent = float(torch.pdist(position).max()) if len(cameras) > 1 else 0.0
    ahead = torch.nn.functional.normalize(axis.mean(0), dim=0)
    fallback = position.mean(0) + ahead * (2 * extent or 1.0)
    eye = torch.eye(3, dtype=torch.float64, device=position.device)
    across = eye - axis[:, :, None] * axis[:, None, :]
    # The damping acts only along directions that the axes leave open: there the mean of `across` is nearly 0.
    damping = 1e-3
    matrix = across.mean(0) + damping * eye
    focus = torch.linalg.solve(matrix, (across @ position[:, :, None]).mean(0)[:, 0] + damping * fallback)
    in_front = ((focus - position) * axis).sum(1)
    return (focus if float(in_front.median()) > 0 else fallback).to(cameras.c2w.dtype)


def view_change(cameras: Cameras, others: Cameras, focus: Tensor | None = None) -> Tensor:
    """[A, B] how far the views differ: baseline over distance to the focus, plus the angle between viewing directions.

    A camera that circles the focus by a small angle scores twice that angle, in radians.

    Args:
        cameras: A cameras.
        others: B cameras.
        focus: [3] what the scene's distance is measured to; of ``cameras`` when not given.
    """
    focus = focus_point(cameras) if focus is None else focus
    a, b = cameras.positions.double(), others.positions.double()
    # Cameras that turn on the spot meet in themselves; their spread then is the only length there is.
    scale = max(float((a - focus.double()).norm(dim=1).median()), float(_distances(a, a).max()), 1e-12)
    # From the chord, because the arc cosine loses all small angles.
    chord = _distances(cameras.c2w[:, :3, 2].double(), others.c2w[:, :3, 2].double())
    return _distances(a, b) / scale + 2 * torch.arcsin((chord / 2).clamp_max(1))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """[A, B] distances between points [A, 3] and [B, 3], without the rounding of the matrix product's form."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def order_photos(cameras: Cameras) -> tuple[list[int], bool]:
    """The shortest visit of all photos, and whether it closes to a loop.

    The length of a step is `view_change`, so both position and viewing direction count. Exact for up to 11 photos,
    else nearest neighbours improved by 2-opt and by moving short runs (Croes 1958; Or 1976). A loop starts at photo 0;
    a chain starts at whichever of its ends has the smaller number.

    Returns:
        order: each photo's index once. closed: whether the way from the last photo back to the first is a step like
        the others, as in a ring around an object.
    """
    count = len(cameras)
    require(count >= 1, "cameras", "not be empty", count, "Give at least one camera.")
    if count <= 2:
        return list(range(count)), False
    step = view_change(cameras, cameras).cpu().numpy()
    step = (step + step.T) / 2  # equal to the last bit both ways, or a search for shorter tours may go in circles
    ring = _shortest_tour(step)
    # An extra stop at no distance from all others turns the best open chain into a best loop.
    chain = _shortest_tour(np.pad(step, (0, 1)))
    cut = chain.index(count)
    chain = chain[cut + 1 :] + chain[:cut]
    chain_steps = step[chain[:-1], chain[1:]]
    closing = step[ring, np.roll(ring, -1)].sum() - chain_steps.sum()
    if closing <= _CLOSING_TO_LONGEST * chain_steps.max() and closing <= _CLOSING_TO_CHAIN * chain_steps.sum():
        start = ring.index(0)
        ring = ring[start:] + ring[:start]
        return (ring if ring[1] < ring[-1] else [ring[0], *ring[:0:-1]]), True
    return (chain if chain[0] < chain[-1] else chain[::-1]), False


def _shortest_tour(step: NDArray[Any]) -> list[int]:
    """The shortest (or for many stops a short) closed tour for a symmetric step matrix [n, n]."""
    return _exact_tour(step) if len(step) <= _EXACT_UP_TO else _short_tour(step)


def _exact_tour(step: NDArray[Any]) -> list[int]:
    """Held & Karp (1962): best[visited, last] over sets of the stops 1..n-1, stop 0 being the start."""
    n = len(step) - 1
    best = np.full((1 << n, n), np.inf)
    came_from = np.zeros((1 << n, n), dtype=np.int64)
    best[1 << np.arange(n), np.arange(n)] = step[0, 1:]
    between = step[1:, 1:]
    for visited in range(1, 1 << n):
        for last in range(n):
            before = visited & ~(1 << last)
            if before != visited and before:
                total = best[before] + between[:, last]
                came_from[visited, last] = total.argmin()
                best[visited, last] = total.min()
    visited, tour = (1 << n) - 1, [0]
    last = int((best[visited] + step[1:, 0]).argmin())
    while visited:
        tour.append(last + 1)
        visited, last = visited & ~(1 << last), int(came_from[visited, last])
    return tour


def _short_tour(step: NDArray[Any]) -> list[int]:
    """The best of several nearest-neighbour tours after local improvement."""
    starts = np.unique(np.linspace(0, len(step) - 1, 8).astype(int))
    tours = [_improved(_nearest_neighbour_tour(step, int(start)), step) for start in starts]
    shortest: list[int] = min(tours, key=lambda tour: step[tour, np.roll(tour, -1)].sum()).tolist()
    return shortest


def _nearest_neighbour_tour(step: NDArray[Any], start: int) -> NDArray[Any]:
    left = np.ones(len(step), dtype=bool)
    tour = [start]
    left[start] = False
    while left.any():
        tour.append(int(np.argmin(np.where(left, step[tour[-1]], np.inf))))
        left[tour[-1]] = False
    return np.array(tour)


def _improved(tour: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
    """2-opt to its end, then runs of one to three stops moved elsewhere, until neither helps."""
    while True:
        tour = _two_opt(tour, step)
        moved = _move_run(tour, step)
        if moved is None:
            return tour
        tour = moved


def _two_opt(tour: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
    """Reverse the stretch that shortens the tour most, until none does."""
    while True:
        after = np.roll(tour, -1)
        edge = step[tour, after]
        gain = np.triu(edge[:, None] + edge - step[np.ix_(tour, tour)] - step[np.ix_(after, after)], 1)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if gain[i, j] <= 1e-12:
            return tour
        tour = np.concatenate([tour[: i + 1], tour[i + 1 : j + 1][::-1], tour[j + 1 :]])


def _move_run(tour: NDArray[Any], step: NDArray[Any]) -> NDArray[Any] | None:
    """The tour with one run of up to three stops moved to a better place; None when no such move helps."""
    for length in (1, 2, 3):
        for start in range(len(tour)):
            turned = np.roll(tour, -start)
            run, rest = turned[:length], turned[length:]
            removed = step[rest[-1], run[0]] + step[run[-1], rest[0]] - step[rest[-1], rest[0]]
            for piece in (run, run[::-1]):
                added = step[rest[:-1], piece[0]] + step[piece[-1], rest[1:]] - step[rest[:-1], rest[1:]]
                place = int(added.argmin())
                if added[place] < removed - 1e-12:
                    better: NDArray[Any] = np.concatenate([rest[: place + 1], piece, rest[place + 1 :]])
                    return better
    return None
