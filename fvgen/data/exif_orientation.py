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
"""Of a photo, spread over the cloud: more tell no more."""
_CLEARLY_BETTER = 0.9
"""Share of the worse reading's colour error that the better one stays below; the right one gave .2 to .5 on photos."""
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
    errors = [_colour_errors(frame, points) for frame in frames]
    turned, stored = (np.concatenate(parts) for parts in zip(*errors, strict=True))
    if len(turned) < _FEWEST_POINTS:
        return None
    better, worse = sorted((float(turned.mean()), float(stored.mean())))
    return bool(stored.mean() < turned.mean()) if better < _CLEARLY_BETTER * worse else None


def _colour_errors(frame: CaptureFrame, points: PointCloud) -> tuple[np.ndarray, np.ndarray]:
    """[M] mean absolute difference of colour, in [0, 1], between points and the pixels where they fall, for the turned
    and the stored photo."""
    step = max(len(points) // _MOST_POINTS, 1)
    index, places, _ = points_in_photo(frame, points.xyz[::step].numpy())
    rgb = points.rgb[::step].numpy()[index]
    results = []
    for exif_ignored in (False, True):
        try:
            photo = read_photo(frame.photo, frame.size, exif_ignored=exif_ignored, at_least=_LONG_SIDE)
        except InputError:  # left out later, with the reason
            return np.empty(0), np.empty(0)
        results.append(np.abs(pixels_at(photo, places)[:, :3] / 255 - rgb).mean(axis=1))
    return results[0], results[1]
