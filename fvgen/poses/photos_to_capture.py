"""A folder of photos, a zip archive of them, or a video, as a posed capture."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fvgen.checks import InputError, complaint, require
from fvgen.poses.camera_groups import KnownCamera, focal_length_camera, read_camera_line
from fvgen.poses.features import MATCHERS, MatcherName, default_matcher
from fvgen.poses.intake import Photo, find_media, read_intake
from fvgen.poses.place import place_photos
from fvgen.poses.placement import PlacementRefusedError
from fvgen.poses.posed_capture import write_capture
from fvgen.poses.refusal import draw_refusal
from fvgen.poses.video import extract_frames
from fvgen.types import Progress, no_progress


@dataclass(frozen=True)
class PoseOptions:
    """How poses are found."""

    matcher: MatcherName | None = None
    """Keypoints and matches: aliked (learned) or sift; aliked where its packages are installed."""
    focal_length: float | None = None
    """Focal length of all photos in pixels, where it is known."""
    camera: str | None = None
    """Camera of all photos as COLMAP's cameras.txt has it, such as "SIMPLE_RADIAL 3072 2304 2559.8 1536 1152 -0.02"."""
    hold_out: int | None = None
    """Hold every so manyth photo out of training, 0 for none; by default none of up to 5 photos, else every sixth."""


def check_options(options: PoseOptions) -> None:
    """Refuse options that exclude each other or cannot be, before any photo is read.

    Raises:
        InputError: see above.
    """
    both = options.focal_length is not None and options.camera is not None
    require(not both, "--camera", "not be given together with --focal-length", options.camera, "Give one of them.")
    require(
        options.hold_out is None or options.hold_out == 0 or options.hold_out >= 2,
        "--hold-out",
        "be 0, or 2 and more",
        options.hold_out,
        "6 holds every sixth photo out.",
    )
    if options.camera is not None:
        read_camera_line(options.camera)


def photos_to_capture(
    source: Path, target: Path, options: PoseOptions | None = None, progress: Progress = no_progress
) -> tuple[str, ...]:
    """Find the poses of photos and write them as a capture.

    Args:
        source: folder or zip archive of photos, or a video (or a folder or archive with one).
        target: folder to write.
        options: how.
        progress: is told each step.

    Returns:
        notes for the user; the summary ("5 of 8 photos placed: ...") first.

    Raises:
        InputError: photos that cannot be used, or whose poses cannot be found safely; a picture of the reasons then
            lies beside ``target``.
    """
    options = options or PoseOptions()
    check_options(options)
    with tempfile.TemporaryDirectory(prefix="fvgen-photos-") as scratch:
        files, videos, root, notes = find_media(source, Path(scratch))
        from_video = not files
        if from_video:
            files, root = (
                _video_frames(source, videos, Path(scratch) / "frames", notes, progress),
                Path(scratch) / "frames",
            )
        elif videos:
            notes.append(f"{len(videos)} videos beside the photos were left out.")
        intake = read_intake(files, root, notes)
        known = _known_camera(options, list(intake.photos))
        matcher = MATCHERS[options.matcher or default_matcher()]()
        try:
            placement = place_photos(intake.photos, matcher, known, progress)
        except PlacementRefusedError as error:
            picture = target.with_name(f"{target.name}_refused.png")
            draw_refusal(error, picture)
            raise InputError(f"{error} What the photos share: {picture}") from error
        write_capture(placement, target, options.hold_out, contact_sheet=from_video)
    return (*placement.notes, *intake.notes)


def _video_frames(source: Path, videos: list[Path], target: Path, notes: list[str], progress: Progress) -> list[Path]:
    """The frames worth placing of the one video there is."""
    found = ", ".join(video.name for video in videos[:5])
    require(len(videos) == 1, str(source), "hold photos or one video", found, "Give one of the videos.")
    target.mkdir()
    frames = extract_frames(videos[0], target, progress)
    notes.extend(frames.notes)
    return list(frames.files)


def _known_camera(options: PoseOptions, photos: list[Photo]) -> KnownCamera | None:
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
