"""From photos to camera poses, or to a clear refusal: a wrong reconstruction is worse than none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fvgen.poses.agreement import Agreement, photometric_agreement
from fvgen.poses.camera_groups import KnownCamera, group_cameras
from fvgen.poses.features import Matcher
from fvgen.poses.focal_check import focal_length_matters
from fvgen.poses.intake import Photo
from fvgen.poses.look import Look, look_at_photos
from fvgen.poses.mapping import MappingCameras
from fvgen.poses.over_photos import for_all
from fvgen.poses.pairs import choose_pairs
from fvgen.poses.parallax import largest_parallax
from fvgen.poses.placement import Matches, Placement
from fvgen.poses.refusal import Cause, refusal
from fvgen.poses.search import Candidate, Found, search
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.two_view import Pair, VerifiedPair, verify
from fvgen.poses.verdicts import FEW_KEYPOINTS, Verdict, reason_not_connected, strong_component, summary
from fvgen.types import Progress, no_progress

_AT_ONCE = 4
"""Pairs that are matched."""
_LEAST_AGREEMENT = 0.03
"""Part of a photo that its neighbours must confirm; right poses gave .04 to .7 on real captures."""
_BEYOND_ACCIDENT = 2.0
"""... and so many times what they confirm with wrong poses; right poses gave 2.9 and more."""
_CLEARLY_MORE = 1.3
"""Where two reconstructions contradict each other, one is taken whose pixels agree this many times better."""
_EXIF_OFF = 1.25
"""A focal length that differs from the metadata's by more than this factor is worth a note."""
_LEAST_ANGLE = 1.5
"""Degrees between the views of one point; below, the photos were taken from one place."""
_LEAST_PARALLAX = 6.0
"""Pixels of the sensor frame that a turn of the camera must leave unexplained; keypoints are off by 1 or 2."""


def place_photos(
    photos: Sequence[Photo], matcher: Matcher, known: KnownCamera | None = None, progress: Progress = no_progress
) -> Placement:
    """Poses of all photos that can be placed safely.

    Args:
        photos: at least two.
        matcher: finds and compares keypoints.
        known: intrinsics where the user has given them.
        progress: called after each step.

    Raises:
        PlacementRefusedError: fewer than two photos can be placed, or several reconstructions explain them.
    """
    looks, reasons = look_at_photos(photos, matcher, known, progress)
    cameras = group_cameras(photos, known)
    points = [looks[i].points if i in looks else np.zeros((0, 2)) for i in range(len(photos))]
    matches = Matches(tuple(photos), looks, _match(looks, points, matcher, cameras, progress))
    agreement: dict[int, float] = {}
    while True:
        chosen = _connected(matches, reasons)
        within = {pair: found for pair, found in matches.pairs.items() if {*pair} <= {*chosen}}
        if largest_parallax(points, within, cameras) < _LEAST_PARALLAX:
            raise refusal(matches, reasons, Cause.ONE_PLACE)
        found = search(points, within, cameras, progress)
        if found is None:
            raise refusal(matches, reasons, Cause.NOT_CONNECTED)
        best, compared = _choose(found, matches, progress)
        if best is None:
            raise refusal(matches, reasons, Cause.CONTRADICTION)
        agreement = compared.share
        doubtful = _doubtful(best, compared, within, chosen)
        if not doubtful:
            break
        reasons |= doubtful
    if best.model.triangulation_angle() < _LEAST_ANGLE:
        raise refusal(matches, reasons, Cause.ONE_PLACE)
    if focal_length_matters(best, points, within):
        raise refusal(matches, reasons, Cause.FOCAL_LENGTH)
    verdicts = _verdicts(photos, reasons, agreement)
    return Placement(matches, best.model, known, verdicts, (summary(verdicts), *_camera_notes(best, photos)))


def _match(
    looks: Mapping[int, Look],
    points: Sequence[np.ndarray],
    matcher: Matcher,
    cameras: MappingCameras,
    progress: Progress,
) -> dict[Pair, VerifiedPair]:
    """Verified matches of the pairs that are worth a comparison."""
    seen = sorted(looks)
    chosen = [(seen[i], seen[j]) for i, j in choose_pairs([looks[i].thumbnail for i in seen])]
    found: dict[Pair, np.ndarray] = dict.fromkeys(chosen, np.zeros((0, 2), np.int64))  # in this order

    def match(number: int) -> None:
        i, j = chosen[number]
        found[i, j] = matcher.match(looks[i].features, looks[j].features)

    for_all(match, len(chosen), matcher, _AT_ONCE, "matching photos", progress)
    return verify(points, [cameras.build(camera) for camera in cameras.camera_of], found)


def _connected(matches: Matches, reasons: dict[int, str]) -> list[int]:
    """The photos that hang together by strong pairs; the reasons of the others are noted.

    Raises:
        PlacementRefusedError: fewer than two hang together.
    """
    counts = {pair: len(found.inliers) for pair, found in matches.pairs.items() if not {*pair} & {*reasons}}
    chosen = [i for i in strong_component(len(matches.photos), counts) if i not in reasons]
    seen = sorted(matches.looks)
    keypoints = {i: len(matches.looks[i].points) for i in seen}
    sharpness = {i: matches.looks[i].sharpness for i in seen}
    others = chosen if len(chosen) > 1 else seen
    if len(seen) < 2:
        raise refusal(matches, reasons, Cause.TOO_FEW)
    for i in seen:
        if (i not in chosen or len(chosen) < 2) and i not in reasons:
            reasons[i] = reason_not_connected(i, keypoints, sharpness, matches.pairs, [j for j in others if j != i])
    if len(chosen) < 2:
        textured = [i for i in seen if keypoints[i] >= FEW_KEYPOINTS]
        cause = Cause.NOT_CONNECTED if len(textured) > 1 else Cause.NO_TEXTURE
        raise refusal(matches, reasons, cause)
    return chosen


def _choose(found: Found, matches: Matches, progress: Progress) -> tuple[Candidate | None, Agreement]:
    """The reconstruction that is believed, None where several are as good; and how its pixels agree."""
    small = [
        matches.looks[i].small if i in matches.looks else np.zeros((1, 1, 3), np.uint8)
        for i in range(len(matches.photos))
    ]
    best, agreement = found.best, photometric_agreement(small, found.best.model, progress)
    clear = True
    for rival in found.rivals[:2]:
        other = photometric_agreement(small, rival.model, progress)
        if other.total > _CLEARLY_MORE * agreement.total:
            best, agreement, clear = rival, other, True
        elif agreement.total < _CLEARLY_MORE * other.total:
            clear = False
    return (best if clear else None), agreement


def _doubtful(
    best: Candidate, agreement: Agreement, pairs: Mapping[Pair, VerifiedPair], chosen: Sequence[int]
) -> dict[int, str]:
    """Photos that the reconstruction leaves out, or holds by little, or whose pixels contradict it."""
    model = best.model
    explained = model.explained(pairs)
    held = {*strong_component(max(chosen) + 1, explained)}
    reasons = {}
    for i in chosen:
        mine = sum(count for pair, count in explained.items() if i in pair)
        if i not in model.placed:
            reasons[i] = "its matches do not fit the cameras of the others"
        elif i not in held:
            reasons[i] = f"only {mine} of its matches fit the cameras of the others"
        elif agreement.share[i] < max(_LEAST_AGREEMENT, _BEYOND_ACCIDENT * agreement.by_accident[i]):
            reasons[i] = (
                f"its pixels do not agree with the others' ({agreement.share[i]:.0%} of it confirmed, "
                f"{agreement.by_accident[i]:.0%} with a wrong pose)"
            )
    return reasons


def _verdicts(
    photos: Sequence[Photo], reasons: Mapping[int, str], agreement: Mapping[int, float]
) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(photo.name, reasons.get(i, ""), agreement.get(i) if i not in reasons else None)
        for i, photo in enumerate(photos)
    )


def _camera_notes(best: Candidate, photos: Sequence[Photo]) -> list[str]:
    """The focal length of each camera, and where its metadata says another one."""
    notes = []
    first = {best.cameras.camera_of[i]: i for i in reversed(best.model.placed)}
    for i in first.values():
        side = max(photos[i].size)
        focal = best.model.lenses[i].focal / SENSOR_WIDTH
        of = f" of {photos[i].name} and its like" if len(first) > 1 else ""
        origin = "as given" if best.cameras.fixed else "estimated"
        notes.append(
            f"Focal length{of}: {focal * side:.0f} pixels at {photos[i].size[0]}x{photos[i].size[1]}, {origin}."
        )
        recorded = photos[i].focal
        if recorded is not None and not best.cameras.fixed and not 1 / _EXIF_OFF < focal / recorded < _EXIF_OFF:
            notes.append(f"The metadata of {photos[i].name} says {recorded * side:.0f} pixels: was the photo cropped?")
    return notes
