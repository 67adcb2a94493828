"""Semi-global matching: a cost volume summed along eight paths. In torch all scanlines of a direction at once.

Hirschmüller, "Stereo Processing by Semiglobal Matching and Mutual Information", PAMI 2008, equations 13 and 14.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fvgen.geometry.sgm_numba import path_costs


def semi_global_cost(cost: Tensor, guide: Tensor, small: float, jump: float, contrast: float) -> Tensor:
    """Sum of the path costs over eight directions.

    Args:
        cost: [H, W, D] matching cost, D hypotheses in order.
        guide: [H, W] grey image in [0, 1] whose edges make jumps cheap.
        small: penalty for a change by one hypothesis.
        jump: penalty for a larger change where the image is flat.
        contrast: grey difference at which ``jump`` is halved; it never falls below 1.5 ``small``.

    Returns:
        [H, W, D].
    """
    if cost.device.type == "cpu" and cost.dtype == guide.dtype == torch.float32:
        return path_costs(cost, guide, small, jump, contrast)
    total = torch.zeros_like(cost)
    for shift in (-1, 0, 1):
        for flip in (False, True):
            _add_path(cost, guide, total, shift, flip, (small, jump, contrast))
    across = cost.transpose(0, 1), guide.transpose(0, 1), total.transpose(0, 1)
    for flip in (False, True):
        _add_path(*across, 0, flip, (small, jump, contrast))
    return total


def _add_path(
    cost: Tensor, guide: Tensor, total: Tensor, shift: int, flip: bool, penalties: tuple[float, float, float]
) -> None:
    """Add one direction's path costs to ``total``, row by row.

    Args:
        cost: [A, B, D]; paths run along A.
        guide: [A, B].
        total: [A, B, D], changed in place.
        shift: columns a path moves to the right with each row.
        flip: from the last row to the first.
        penalties: small, jump, contrast.
    """
    rows, columns, hypotheses = cost.shape
    small, jump, contrast = penalties
    order = range(rows - 1, -1, -1) if flip else range(rows)
    # One column of zeros left and right: a path that enters there starts anew. One hypothesis of infinity at each
    # end: no neighbour to come from.
    before = torch.zeros(columns + 2, hypotheses + 2, dtype=cost.dtype, device=cost.device)
    before[:, 0] = before[:, -1] = math.inf
    guide_before = torch.zeros(columns + 2, dtype=guide.dtype, device=guide.device)
    came_from = slice(1 - shift, 1 - shift + columns)
    path, lowest = torch.empty_like(cost[0]), torch.empty_like(cost[0, :, :1])
    for i in order:
        previous = before[came_from]
        same = previous[:, 1:-1]
        torch.amin(same, dim=1, keepdim=True, out=lowest)
        gradient = (guide[i] - guide_before[came_from]).abs()[:, None]
        leap = (jump / (1 + gradient / contrast)).clamp_min(1.5 * small)
        torch.minimum(previous[:, :-2], previous[:, 2:], out=path)
        path.add_(small)
        torch.minimum(path, same, out=path)
        torch.minimum(path, lowest + leap, out=path)
        path.sub_(lowest).add_(cost[i])
        total[i] += path
        before[1:-1, 1:-1] = path
        guide_before[1:-1] = guide[i]
