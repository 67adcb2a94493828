"""Everything that is kept of a photo while poses are sought: each photo is decoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fvgen.checks import InputError
from fvgen.poses.agreement import check_image
from fvgen.poses.camera_groups import KnownCamera, sensor_points
from fvgen.poses.features import Features, Matcher
from fvgen.poses.intake import Photo
from fvgen.poses.over_photos import for_all
from fvgen.poses.sensor_frame import SensorFrame
from fvgen.types import Progress

_THUMBNAIL = 32
_SAME_PICTURE = 0.04
"""Mean difference of two thumbnails below this part of their contrast: one picture. JPEG alone changes a hundredth."""
_SHARPNESS_WIDTH = 512
_AT_ONCE = 2
"""Photos, of which each takes a gigabyte while its keypoints are found."""


@dataclass(frozen=True)
class Look:
    """What is kept of one photo."""

    features: Features
    points: np.ndarray
    """[N, 2] keypoints in the sensor frame, a known lens taken out."""
    colours: np.ndarray
    """[N, 3] uint8 at the keypoints."""
    small: np.ndarray
    """[h, w, 3] uint8 in sensor orientation, for the comparison of pixels."""
    thumbnail: np.ndarray
    """[32, 32] grey, float32."""
    sharpness: float
    """Variance of the Laplacian over that of the picture."""


def look_at_photos(
    photos: Sequence[Photo], matcher: Matcher, known: KnownCamera | None, progress: Progress
) -> tuple[dict[int, Look], dict[int, str]]:
    """Keypoints and small copies of all photos.

    Returns:
        what was seen, by the photo's number; and why the others have no place here: damaged, or seen before.
    """
    looks: dict[int, Look] = {}
    left_out: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            looks[i] = _look(photos[i], matcher, known)
        except InputError as error:
            left_out[i] = f"it cannot be read ({error})"

    for_all(look, len(photos), matcher, _AT_ONCE, "finding keypoints", progress)
    seen: dict[int, Look] = {}
    for i in sorted(looks):
        twin = next((j for j, other in seen.items() if _same_picture(looks[i].thumbnail, other.thumbnail)), None)
        if twin is None:
            seen[i] = looks[i]
        else:
            left_out[i] = f"it is the same picture as {photos[twin].name}"
    return seen, left_out


def _look(photo: Photo, matcher: Matcher, known: KnownCamera | None) -> Look:
    """
    Raises:
        InputError: the photo cannot be read.
    """
    pixels = photo.pixels()
    features = matcher.extract(pixels)
    column, row = np.clip(features.xy.astype(int), 0, [pixels.shape[1] - 1, pixels.shape[0] - 1]).T
    return Look(
        features=features,
        points=sensor_points(photo, features.xy, known),
        colours=pixels[row, column],
        small=check_image(SensorFrame(*photo.size).image_from_photo(pixels)),
        thumbnail=_grey(pixels, _THUMBNAIL, _THUMBNAIL),
        sharpness=_sharpness(pixels),
    )


def _grey(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)


def _same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    return float(np.abs(first - second).mean()) <= _SAME_PICTURE * float(first.std())


def _sharpness(pixels: np.ndarray) -> float:
    scale = _SHARPNESS_WIDTH / max(pixels.shape[:2])
    grey = _grey(pixels, max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return float(cv2.Laplacian(grey, cv2.CV_32F).var() / (grey.var() + 1.0))
