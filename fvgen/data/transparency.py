"""What transparent pixels of photos mean: empty space around a subject that was cut out, or what is not to count."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from fvgen.checks import InputError
from fvgen.data.capture import CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.photos import has_transparency, opaque_pixels, read_photo
from fvgen.devices import cpu_count

_MOST_PHOTOS = 8
"""Photos that are looked at, spread over those for training."""
_SURROUNDED = 0.5
"""Share of its border that is transparent around a subject that was cut out."""
_LONG_SIDE = 640
_GRID = 64
"""Cells a side in which transparent areas are compared."""
_SAME_AREA = 0.9
"""Part that the photos' transparent areas, and their opaque ones, have in common where they belong to the camera."""


def masked_by_transparency(
    frames: Sequence[CaptureFrame], train: Sequence[int], notes: CaptureNotes
) -> list[CaptureFrame]:
    """The frames, each with itself as its mask where its transparent pixels are not to count.

    Transparency around the subject of every photo is empty space, as in NeRF's synthetic scenes: the splat is to be
    transparent there. That cannot be meant where a photo shows its surroundings, nor where all photos are transparent
    in the same place, as beyond the border of a lens: such pixels are hidden, as by any other mask.

    Args:
        frames: photos, those without a mask of their own are looked at.
        train: indices of those that train, which decide for all.
        notes: receives what transparency was taken for.
    """
    candidates = [i for i, frame in enumerate(frames) if frame.mask is None and _may_be_transparent(frame)]
    if set(train) <= set(candidates) and _are_cut_out([frames[i] for i in train]):
        notes.add(
            "The photos are cut out: transparent pixels count as empty space, in training and in all figures. "
            "To have them ignored instead, give masks."
        )
        return list(frames)
    with ThreadPoolExecutor(cpu_count()) as pool:  # decoders release the interpreter's lock
        hidden = pool.map(lambda i: bool(not _opaque(frames[i]).all()), candidates)
        masked = {i for i, some in zip(candidates, hidden, strict=True) if some}
    return [replace(frame, mask=frame.photo) if i in masked else frame for i, frame in enumerate(frames)]


def _may_be_transparent(frame: CaptureFrame) -> bool:
    try:
        return has_transparency(frame.photo)
    except InputError:  # left out later, with the reason
        return False


def _opaque(frame: CaptureFrame) -> np.ndarray:
    """[H, W] bool; all of a photo that cannot be read, which is left out later, with the reason."""
    try:
        pixels = read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored, at_least=_LONG_SIDE)
    except InputError:
        return np.ones((1, 1), bool)
    return opaque_pixels(pixels)


def _are_cut_out(frames: Sequence[CaptureFrame]) -> bool:
    """Whether every photo shows a subject with nothing around it; some of many photos are looked at."""
    areas: list[np.ndarray] = []
    for frame in frames[:: max(-(-len(frames) // _MOST_PHOTOS), 1)]:
        opaque = _opaque(frame)
        rows, columns = (np.linspace(0, side - 1, _GRID).round().astype(int) for side in opaque.shape)
        area = opaque[rows[:, None], columns]
        if np.concatenate([area[[0, -1]].ravel(), area[:, [0, -1]].ravel()]).mean() > 1 - _SURROUNDED:
            return False
        areas.append(area)
    same = [
        np.logical_and.reduce(one).sum() >= _SAME_AREA * np.logical_or.reduce(one).sum()
        for one in (areas, [~area for area in areas])
    ]
    return bool(areas) and not all(same)
