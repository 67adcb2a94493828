"""Camera positions of a COLMAP model in map coordinates, made to agree with what its photos show.

Far from the origin a rotation that is rounded, in the seventh digit already, moves a camera by metres: its centre is
``-R^T t``. The model's own observations then tell where the camera stands: where the rays through them meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from fvgen.data.capture import CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.colmap_files import ColmapPoints

_FAR = 1000.0
"""Distances from the origin, in extents of the cameras, from which rounded rotations show."""
_FEWEST_POINTS = 20
_CONTRADICTION = 2.0
"""Pixels: structure from motion leaves less between a point and where it was seen."""
_BETTER = 0.25
"""Share of the contradiction that the new position may leave."""


def agreeing_positions(
    frames: Sequence[CaptureFrame], seen: Mapping[str, np.ndarray], points: ColmapPoints | None, notes: CaptureNotes
) -> list[CaptureFrame]:
    """The frames, those far from the origin whose position contradicts their observations with a better one.

    Args:
        frames: as the model gives them.
        seen: by the frames' names, the points [M, 3] that they show: x and y in pixels, number of the point.
        points: of the model.
        notes: receives how many positions are new, and by how many pixels the old ones were off.
    """
    centres = np.array([frame.c2w[:3, 3] for frame in frames if np.isfinite(frame.c2w).all()]).reshape(-1, 3)
    extent = float(np.ptp(centres, axis=0).max()) if len(centres) else 0.0
    if points is None or not extent or float(np.abs(centres).max()) < _FAR * extent:
        return list(frames)
    place = {int(number): i for i, number in enumerate(points.numbers)}
    xyz = points.cloud.xyz.numpy()
    result, off = [], []
    for frame in frames:
        shown = [(u, v, place[int(n)]) for u, v, n in seen[frame.name].tolist() if int(n) in place]
        moved, before = _moved(frame, np.array(shown).reshape(-1, 3), xyz)
        result.append(moved)
        if moved is not frame:
            off.append(before)
    if off:
        notes.add(
            f"The positions of {len(off)} photos contradict what they show by up to {max(off):.0f} pixels, as happens "
            "when rotations are rounded far from the origin: computed anew from the model's points."
        )
    return result


def _moved(frame: CaptureFrame, seen: np.ndarray, xyz: np.ndarray) -> tuple[CaptureFrame, float]:
    """The frame where its rays meet, if that is needed, and the pixels that it was off.

    Args:
        frame: the photo.
        seen: [M, 3] x, y and index of points that it shows.
        xyz: [P, 3]
    """
    if len(seen) < _FEWEST_POINTS or not np.isfinite(frame.c2w).all():
        return frame, 0.0
    points, rotation = xyz[seen[:, 2].astype(int)], frame.c2w[:3, :3]
    K, lens = frame.K.astype(np.float64), np.array(frame.distortion)
    straight = cv2.undistortPoints(seen[:, None, :2].astype(np.float64), K, lens)[:, 0]
    rays = np.concatenate([straight, np.ones((len(straight), 1))], axis=1) @ rotation.T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    across = np.eye(3) - rays[:, :, None] * rays[:, None, :]
    # near the points, where float64 has digits to spare
    middle = points.mean(axis=0)
    centre = middle + np.linalg.solve(across.sum(axis=0), (across @ (points - middle)[:, :, None]).sum(axis=0))[:, 0]
    before, after = (_pixels_off(K, rotation, c, points, straight) for c in (frame.c2w[:3, 3], centre))
    if before < _CONTRADICTION or after > _BETTER * before:
        return frame, before
    c2w = frame.c2w.copy()
    c2w[:3, 3] = centre
    return replace(frame, c2w=c2w), before


def _pixels_off(
    K: np.ndarray, rotation: np.ndarray, centre: np.ndarray, points: np.ndarray, straight: np.ndarray
) -> float:
    """Median distance between points [M, 3] and where they were seen [M, 2], without distortion, at depth 1."""
    local = (points - centre) @ rotation
    offset = (local[:, :2] / local[:, 2:] - straight) * K[[0, 1], [0, 1]]
    return float(np.median(np.linalg.norm(offset, axis=1)))
