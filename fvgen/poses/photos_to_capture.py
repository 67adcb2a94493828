"""A folder of photos, a zip archive of them, or a video, as a posed capture."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fvgen
from fvgen.checks import InputError, complaint, require
from fvgen.files import disk_errors, require_writable
from fvgen.poses.camera_groups import KnownCamera, focal_length_camera, read_camera_line
from fvgen.poses.features import MATCHERS, MatcherName, default_matcher
from fvgen.poses.features_aliked import INSTALL, missing_packages
from fvgen.poses.intake import REFUSAL_PICTURE, Photo, digest, find_media, read_intake
from fvgen.poses.options import PoseOptions, check_options
from fvgen.poses.place import place_photos
from fvgen.poses.placement import Placement, PlacementRefusedError
from fvgen.poses.posed_capture import held_out, write_capture
from fvgen.poses.refusal import draw_refusal
from fvgen.poses.video import extract_frames
from fvgen.types import Progress, no_progress

_SIFT_ALONE = f"SIFT places fewer photos than learned matches do. Install those: {INSTALL}"


@dataclass(frozen=True)
class _Intake:
    photos: tuple[Photo, ...]
    from_video: bool
    notes: tuple[str, ...]


def photos_to_capture(
    source: Path, target: Path, options: PoseOptions | None = None, progress: Progress = no_progress
) -> tuple[str, ...]:
    """Find the poses of photos and write them as a capture.

    Args:
        source: folder or zip archive of photos, or a video (or a folder or archive with one).
        target: folder to write.
        options: how.
        progress: called after each step.

    Returns:
        notes for the user; the summary ("5 of 8 photos placed: ...") first.

    Raises:
        InputError: photos that cannot be used, or whose poses cannot be found safely; a picture of the reasons then
            lies beside ``target``.
    """
    options = options or PoseOptions()
    check_options(options)
    require_writable("OUT", target, "Choose another folder.")
    with tempfile.TemporaryDirectory(prefix="fvgen-photos-") as scratch:
        intake = _take_in(source, Path(scratch), progress)
        known = _known_camera(options, intake.photos)
        held_out(range(len(intake.photos)), options.hold_out)  # refuses what cannot be before any work
        placement = _place(intake.photos, options.matcher, known, target, progress)
        return write_capture(
            placement,
            target,
            held_out(placement.model.placed, options.hold_out),
            notes=intake.notes,
            recipe=recipe(source, options),
            contact_sheet=intake.from_video,
        )


def recipe(source: Path, options: PoseOptions) -> dict[str, Any]:
    """All that decides what `photos_to_capture` makes, as JSON: equal recipes give equal captures."""
    chosen = {field.name: getattr(options, field.name) for field in dataclasses.fields(PoseOptions)}
    chosen["matcher"] = options.matcher or default_matcher()
    return {"photos": digest(source), "options": chosen, "version": fvgen.__version__}


def _take_in(source: Path, scratch: Path, progress: Progress) -> _Intake:
    """The photos, or the frames of the one video there is."""
    files, videos, root, notes = find_media(source, scratch / "unpacked")
    from_video = not files
    if files:
        if videos:
            notes.append(f"Videos beside photos are not used: {', '.join(video.name for video in videos[:5])}.")
    else:
        found = ", ".join(video.name for video in videos[:5])
        require(len(videos) == 1, str(source), "hold photos or one video", found, "Give one of the videos.")
        root = scratch / "frames"
        root.mkdir()
        frames = extract_frames(videos[0], root, progress)
        files = list(frames.files)
        notes.extend(frames.notes)
    intake = read_intake(files, root, notes)
    return _Intake(intake.photos, from_video, intake.notes)


def _place(
    photos: Sequence[Photo], name: MatcherName | None, known: KnownCamera | None, target: Path, progress: Progress
) -> Placement:
    """Poses of the photos, or an error with a picture of the reasons beside ``target``."""
    matcher = MATCHERS[name or default_matcher()]()
    sift_alone = matcher.name == "sift" and bool(missing_packages())
    try:
        placement = place_photos(photos, matcher, known, progress)
    except PlacementRefusedError as error:
        picture = target.with_name(f"{target.name}{REFUSAL_PICTURE}")
        with disk_errors("the picture of what the photos share", picture, f"It would show why: {error}"):
            draw_refusal(error, picture)
        text = f"{error} What the photos share: {picture}"
        raise InputError(f"{text}. {_SIFT_ALONE}" if sift_alone else text) from error
    if sift_alone and len(placement.model.placed) < len(photos):
        placement = dataclasses.replace(placement, notes=(*placement.notes, _SIFT_ALONE))
    return placement


def _known_camera(options: PoseOptions, photos: Sequence[Photo]) -> KnownCamera | None:
    if options.focal_length is not None:
        return focal_length_camera(options.focal_length, photos)
    if options.camera is None:
        return None
    camera = read_camera_line(options.camera)
    others = [photo for photo in photos if not camera.fits(photo.size)]
    if others:
        found = f"{others[0].name} with {others[0].size[0]}x{others[0].size[1]} pixels"
        rule = f"be the camera of all photos, {camera.width}x{camera.height} pixels"
        raise InputError(complaint("--camera", rule, found, "Leave such photos out, or the option."))
    return camera
