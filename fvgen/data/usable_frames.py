"""Which photos of a capture can be used: the others are left out, and named."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.depth_files import check_depth_size, read_depth
from fvgen.data.frame_checks import check_frame, check_pixels
from fvgen.devices import cpu_count
from fvgen.geometry.cameras import repeated_poses


def keep_usable(files: CaptureFiles, notes: CaptureNotes, *, decode: bool) -> CaptureFiles:
    """The capture without photos and depth maps that cannot be used.

    Args:
        files: as described.
        notes: gets what is left out, and why.
        decode: whether photos, masks and depth maps are decoded to the end, which finds truncated ones.
    """
    frames = [_without_bad_depth(frame, notes, decode=decode) for frame in files.frames]
    with ThreadPoolExecutor(cpu_count()) as pool:  # decoders release the interpreter's lock
        complaints = pool.map(lambda frame: _complaint(frame, decode=decode), frames)
        for frame, error in zip(frames, complaints, strict=True):
            if error is not None:
                notes.leave_out(frame.name, error)
    kept = [i for i, frame in enumerate(frames) if frame.name not in notes.left_out]
    train = [i for i in files.split("train") if i in set(kept)]
    repeated = _repeated([frames[i] for i in train], notes)
    kept = [i for i in kept if frames[i].name not in repeated]
    place = {old: new for new, old in enumerate(kept)}
    splits = {name: tuple(place[i] for i in indices if i in place) for name, indices in files.splits.items()}
    return replace(files, frames=tuple(frames[i] for i in kept), splits=splits)


def require_training_photos(files: CaptureFiles, notes: CaptureNotes) -> None:
    """Refuse a capture that trains on fewer than two photos, with the reasons why others were left out.

    Raises:
        InputError: so it is.
    """
    count = len(files.split("train"))
    reasons = notes.reasons() or "Take more photos, or fix the split that the capture names."
    require(count >= 2, "capture", "have at least 2 photos to train on", count, reasons)


def _complaint(frame: CaptureFrame, *, decode: bool) -> InputError | None:
    try:
        check_frame(frame)
        if decode:
            check_pixels(frame)
    except InputError as error:
        return error
    return None


def _without_bad_depth(frame: CaptureFrame, notes: CaptureNotes, *, decode: bool) -> CaptureFrame:
    if frame.depth is None:
        return frame
    with notes.leaving_out(f"the depth of {frame.name}"):
        check_depth_size(frame.depth, frame.size)
        if decode:
            read_depth(frame.depth, unit=1.0)
        return frame
    return replace(frame, depth=None)


def _repeated(frames: Sequence[CaptureFrame], notes: CaptureNotes) -> set[str]:
    """Names of photos that stand exactly where an earlier one stands: of a bracketed exposure one is enough."""
    if len(frames) < 2:
        return set()
    c2w = torch.from_numpy(np.stack([frame.c2w for frame in frames])).double()
    repeated: set[str] = set()
    for first, second in repeated_poses(c2w):
        name, like = frames[second].name, frames[first].name
        if like not in repeated:
            repeated.add(name)
            again = "Estimate the poses again if the photos differ."
            notes.leave_out(name, InputError(complaint("its pose", "differ from others", f"that of {like}", again)))
    return repeated
