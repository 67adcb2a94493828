"""Whether poses belong to photos as stored or as their EXIF orientation turns them, where sizes do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fvgen.checks import InputError
from fvgen.data.capture import CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.photos import exif_reading, read_photo
from fvgen.data.points_in_photos import pixels_at, points_in_photo
from fvgen.types import PointCloud

_FEWEST_POINTS = 30
_MOST_POINTS = 5000
"""Points of a photo that are looked at, spread over the cloud: more of them change nothing."""
_CLEAR = 0.2
"""Correlation by which one reading must be ahead: on nine captures the right one was, by .37 to 1.1."""
_LONG_SIDE = 640


def settle_orientation(
    frames: Sequence[CaptureFrame], points: PointCloud | None, notes: CaptureNotes
) -> list[CaptureFrame]:
    """The frames with ``exif_ignored`` set.

    A photo turned by 180 degrees, and a square one turned by 90, keeps its size. One tool made all poses, so one answer
    holds for all such photos: that of the sparse points' colours, which agree with the photos under the right reading;
    else what sizes say of the capture's other photos; else photos count as upright, and a note says so.
    """
    readings = {frame.name: _reading(frame) for frame in frames}
    undecided = [frame for frame in frames if readings[frame.name] == "open"]
    if not undecided:
        return list(frames)
    ignored = None if points is None else _told_by_colours(undecided, points)
    decided = set(readings.values()) & {"honoured", "ignored"}
    if ignored is None and len(decided) == 1:
        ignored = decided == {"ignored"}
    if ignored is None:
        notes.add(
            f"{len(undecided)} photos carry an EXIF orientation. Neither their size nor the colours of sparse points "
            "tell whether the poses honour it: taken as upright. If views look turned, remove that tag from the photos."
        )
    elif ignored:
        notes.add(f"The poses ignore the EXIF orientation of {len(undecided)} photos: read as they are stored.")
    return [replace(frame, exif_ignored=bool(ignored)) if readings[frame.name] == "open" else frame for frame in frames]


def _reading(frame: CaptureFrame) -> str:
    try:
        return exif_reading(frame.photo, frame.size)
    except InputError:  # left out later, with the reason
        return "none"


def _told_by_colours(frames: Sequence[CaptureFrame], points: PointCloud) -> bool | None:
    """Whether the stored photos fit the points better than the turned ones; None when that is not clear."""
    fits = [_fit(frame, points) for frame in frames]
    counts = np.array([count for count, _, _ in fits])
    if counts.sum() < _FEWEST_POINTS:
        return None
    turned, stored = (np.average([fit[i] for fit in fits], weights=counts) for i in (1, 2))
    return bool(stored > turned) if abs(stored - turned) > _CLEAR else None


def _fit(frame: CaptureFrame, points: PointCloud) -> tuple[int, float, float]:
    """How many points fall into a photo, and how their colours correlate with its pixels there: those of the turned and
    those of the stored photo. Exposure does not matter to that."""
    step = max(len(points) // _MOST_POINTS, 1)
    index, places, _ = points_in_photo(frame, points.xyz[::step].numpy())
    rgb = points.rgb[::step].numpy()[index]
    try:
        photos = [
            read_photo(frame.photo, frame.size, exif_ignored=ignored, at_least=_LONG_SIDE) for ignored in (False, True)
        ]
    except InputError:  # left out later, with the reason
        return 0, 0.0, 0.0
    turned, stored = (_correlation(rgb, pixels_at(photo, places)[:, :3]) for photo in photos)
    return len(index), turned, stored


def _correlation(colours: np.ndarray, pixels: np.ndarray) -> float:
    """Correlation of two lists of colours [M, 3]; 0 where one of them has a single colour."""
    if len(colours) < 2:
        return 0.0
    first, second = (values - values.mean(axis=0) for values in (colours.astype(float), pixels.astype(float)))
    length = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / length if length > 0 else 0.0
