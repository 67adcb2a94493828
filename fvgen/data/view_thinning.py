"""Which few of many photos to keep: the written rule behind ``--views N``."""

from __future__ import annotations

import torch
from torch import Tensor

from fvgen.checks import require


def thin_views(positions: Tensor, count: int) -> list[int]:
    """Indices of ``count`` photos that cover the capture, in the order of the photos.

    The rule: the two photos whose cameras stand farthest apart come first, then again and again the photo farthest
    from all that are chosen (farthest-point sampling). Ties go to the earlier photo. So the ends of the capture stay,
    and fewer views are always a subset of more.

    Args:
        positions: [V, 3] camera centres.
        count: photos to keep; V or more keeps all.

    Raises:
        InputError: fewer than two photos are asked for.
    """
    require(count >= 2, "views", "be at least 2", count, "A splat needs two photos or more.")
    if count >= len(positions):
        return list(range(len(positions)))
    distance = torch.cdist(positions.double(), positions.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(-1)  # below every distance: no photo is chosen twice, not even where cameras coincide
    chosen = list(divmod(int(distance.argmax()), len(positions)))
    while len(chosen) < count:
        chosen.append(int(distance[:, chosen].amin(dim=1).argmax()))
    return sorted(chosen)
