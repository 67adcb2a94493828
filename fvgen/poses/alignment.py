"""How far two sets of poses of the same photos differ, after the similarity that brings them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PoseDifference:
    """Largest differences over the cameras."""

    position: float
    """Part of the largest distance between two reference cameras."""
    degrees: float
    """Rotation."""


def pose_difference(own: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> PoseDifference:
    """The rotation is fitted to the cameras' orientations, scale and offset then to their positions.

    Positions alone would leave open how cameras in a row are turned about that row. Two cameras always meet in their
    positions up to the direction between them, which counts here.

    Args:
        own: V poses [4, 4], camera-to-world, V at least 2.
        reference: the same cameras' poses to compare with.
    """
    a, b = np.stack(own), np.stack(reference)
    u, _, vt = np.linalg.svd(np.einsum("vij,vkj->ik", b[:, :3, :3], a[:, :3, :3]))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    positions, targets = a[:, :3, 3] @ rotation.T, b[:, :3, 3]
    centred, aims = positions - positions.mean(axis=0), targets - targets.mean(axis=0)
    scale = float((centred * aims).sum() / max((centred**2).sum(), 1e-300))
    span = np.linalg.norm(targets[:, None] - targets[None], axis=2).max()
    moved = np.linalg.norm(scale * centred - aims, axis=1).max()
    turn = np.einsum("vji,jk,vkl->vil", b[:, :3, :3], rotation, a[:, :3, :3])
    cosine = (np.trace(turn, axis1=1, axis2=2) - 1) / 2
    return PoseDifference(float(moved / max(span, 1e-300)), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()))
