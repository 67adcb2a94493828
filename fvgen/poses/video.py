"""Frames of a video that are worth placing: sharp ones, with enough parallax between neighbours.

The video is decoded once at a low resolution to measure sharpness and motion, and once more for the chosen frames.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from fvgen.checks import InputError, complaint, require
from fvgen.types import Progress, no_progress

if TYPE_CHECKING:
    import av

FEWEST_FRAMES, MOST_FRAMES = 8, 20
_STEP = 0.12
"""Motion between chosen neighbours, in widths of the picture; a video with less motion in all gives no baseline."""
_LOOK_WIDTH = 320
_LOOKS_A_SECOND = 10
"""Frames a second that are looked at; neighbouring ones of 30 or 60 differ by little."""
_MOST_LOOKS = 1200
"""Longer videos are looked at in larger steps."""
_LEAST_MOTION = 0.3
"""Motion of a whole video in widths of the picture."""
_CORNERS = 200
_JPEG_QUALITY = 97
_TILE = 240
"""Width of a frame in the contact sheet."""


@dataclass(frozen=True)
class VideoFrames:
    """The frames that were written."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    seconds: float
    sharpness: float
    moved: float
    """Since the look before, in widths of the picture."""


def extract_frames(video: Path, target: Path, progress: Progress = no_progress) -> VideoFrames:
    """Write the frames worth placing as upright JPEG files, and a contact sheet beside them.

    Args:
        video: the file.
        target: folder to write into, which exists.
        progress: called with the seconds looked at.

    Raises:
        InputError: no video, one that cannot be decoded, or one without motion.
    """
    looks, notes = _look(video, progress)
    moved = sum(look.moved for look in looks)
    require(
        len(looks) >= 2 and moved >= _LEAST_MOTION,
        f"video {video.name}",
        "be filmed while walking, so that the scene is seen from several places",
        f"{len(looks)} frames in which the picture moves by {moved:.2f} of its width",
        "Film again: walk sideways, slowly, the camera on the scene all the time.",
    )
    chosen = choose_frames([look.sharpness for look in looks], [look.moved for look in looks])
    seconds = [looks[i].seconds for i in chosen]
    files = []
    for number, (at, pixels) in enumerate(_frames_at(video, seconds)):
        path = target / f"frame_{number:03d}_{at:07.2f}s.jpg"
        Image.fromarray(pixels).save(path, quality=_JPEG_QUALITY, subsampling=0)
        files.append(path)
    notes.append(f"{len(files)} frames of {video.name} were chosen out of {len(looks)} looked at.")
    return VideoFrames(tuple(files), tuple(notes))


def choose_frames(sharpness: list[float], moved: list[float]) -> list[int]:
    """Frames at equal steps of motion, of each step the sharpest near its middle.

    Args:
        sharpness: of each frame.
        moved: of each frame since the one before, in widths of the picture.
    """
    path = np.cumsum(moved)
    count = int(np.clip(round(path[-1] / _STEP), FEWEST_FRAMES, MOST_FRAMES))
    count = min(count, len(path))
    edges = np.linspace(path[0], path[-1], count + 1)
    chosen = []
    for low, high in itertools.pairwise(edges):
        margin = 0.1 * (high - low)
        inside = np.flatnonzero((path >= low + margin) & (path <= high - margin))
        if not len(inside):
            inside = np.array([np.abs(path - (low + high) / 2).argmin()])
        chosen.append(int(inside[np.asarray(sharpness)[inside].argmax()]))
    return sorted(dict.fromkeys(chosen))


def write_contact_sheet(frames: Mapping[Path, bool], path: Path, columns: int = 5) -> None:
    """A JPEG with all frames in order, each named as what it is.

    Args:
        frames: the files, and whether each is held out of training.
        path: JPEG file.
        columns: frames side by side.
    """
    tiles: list[Image.Image] = []
    for file, is_held_out in frames.items():
        with Image.open(file) as image:
            tile = image.convert("RGB").resize((_TILE, max(1, round(_TILE * image.height / image.width))))
        pen = ImageDraw.Draw(tile)
        text = f"{len(tiles)}: {'held-out' if is_held_out else 'training'} photo"
        pen.rectangle(pen.textbbox((4, 2), text), fill="black")
        pen.text((4, 2), text, fill="white")
        tiles.append(tile)
    rows = -(-len(tiles) // columns)
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (columns * _TILE, rows * height), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, ((number % columns) * _TILE, (number // columns) * height))
    sheet.save(path, quality=90)


def _look(video: Path, progress: Progress) -> tuple[list[_Look], list[str]]:
    """Sharpness and motion along the video; a video that breaks off is used up to there."""
    looks: list[_Look] = []
    before: np.ndarray | None = None
    notes = []
    with _opened(video) as container:
        length = container.duration / 1e6 if container.duration else 0.0
        step = max(1 / _LOOKS_A_SECOND, length / _MOST_LOOKS)
        try:
            for seconds, frame in _frames(container):
                if looks and seconds < looks[-1].seconds + step - 1e-6:
                    continue
                progress(round(seconds), max(round(length), round(seconds)), "looking at the video")
                grey = _small_grey(frame)
                moved = 0.0 if before is None else _motion(before, grey)
                looks.append(_Look(seconds, float(cv2.Laplacian(grey, cv2.CV_32F).var()), moved))
                before = grey
        except _av_errors() as error:
            require(len(looks) > 1, f"video {video.name}", "be a whole video", f"'{error}'", "Copy the file again.")
            notes.append(f"{video.name} breaks off after {looks[-1].seconds:.1f} s ('{error}'): used up to there.")
    if length and looks and looks[-1].seconds < 0.9 * length - 1 and not notes:
        notes.append(f"{video.name} ends after {looks[-1].seconds:.1f} s of {length:.1f}: used up to there.")
    return looks, notes


def _frames_at(video: Path, seconds: list[float]) -> Iterator[tuple[float, np.ndarray]]:
    """The upright frames [H, W, 3] uint8 at these times."""
    wanted = iter(seconds)
    at = next(wanted, None)
    with _opened(video) as container:
        for time, frame in _frames(container):
            if at is None:
                return
            if time >= at - 1e-6:
                yield time, np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                at = next(wanted, None)


def _frames(container: av.container.InputContainer) -> Iterator[tuple[float, av.VideoFrame]]:
    for number, frame in enumerate(container.decode(video=0)):
        yield float(frame.time) if frame.time is not None else number / 30, frame


def _opened(video: Path) -> av.container.InputContainer:
    import av

    # torchvision before 0.25 has FFmpeg log through Python. Its threads then wait for the interpreter, which waits for
    # them when a video is closed before its end.
    av.logging.set_level(None)
    try:
        container = av.open(str(video))
    except _av_errors() as error:
        text = complaint(f"video {video.name}", "be a video that PyAV reads", f"'{error}'", "Copy the file again.")
        raise InputError(text) from error
    if not container.streams.video:
        container.close()
        raise InputError(complaint(f"video {video.name}", "have pictures", "none", "Give another file."))
    container.streams.video[0].thread_type = "AUTO"
    return container


def _av_errors() -> tuple[type[Exception], ...]:
    import av

    return (av.FFmpegError, OSError, ValueError)


def _quarter_turns(frame: av.VideoFrame) -> int:
    """Counter-clockwise quarter turns that stand a frame upright, from the video's rotation tag."""
    return round(frame.rotation / 90) % 4


def _small_grey(frame: av.VideoFrame) -> np.ndarray:
    width, height = _LOOK_WIDTH, max(2, round(_LOOK_WIDTH * frame.height / frame.width))
    return frame.reformat(width=width, height=height, format="gray").to_ndarray()


def _motion(before: np.ndarray, now: np.ndarray) -> float:
    """Median motion of corners in widths of the picture (Lucas and Kanade, as OpenCV tracks them)."""
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 7)
    if corners is None:
        return 0.0
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, now, corners, np.zeros_like(corners))
    kept = status[:, 0] == 1
    if not kept.any():
        return 0.0
    return float(np.median(np.linalg.norm((found - corners)[kept, 0], axis=1))) / before.shape[1]
