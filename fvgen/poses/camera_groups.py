"""Which photos share a camera, and what is known about it before matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fvgen.checks import InputError, complaint, require
from fvgen.poses.intake import Photo
from fvgen.poses.mapping import FOCAL_RANGE, MappingCameras
from fvgen.poses.sensor_frame import SENSOR_WIDTH, SensorFrame

_MODELS = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"}
"""COLMAP's camera models that Nerfstudio's OPENCV can express."""


@dataclass(frozen=True)
class KnownCamera:
    """Intrinsics that the user has given, for photos of one shape; as the sensor lies, unless `turned`."""

    width: int
    height: int
    K: np.ndarray
    """[3, 3] in pixels, pixel centres at +0.5."""
    distortion: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """OpenCV's k1 k2 p1 p2."""

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether a photo of that (width, height) has the camera's shape, either way round, at any resolution."""
        return abs(max(size) * self.height - min(size) * self.width) <= max(size)

    def turned(self) -> KnownCamera:
        """A quarter turn: of an upright photo, as its sensor lies; of the sensor, an upright photo standing on its
        head."""
        K = self.K.copy()
        K[[0, 1], [0, 1]] = self.K[[1, 0], [1, 0]]
        K[:2, 2] = self.K[1, 2], self.width - self.K[0, 2]
        k1, k2, p1, p2 = self.distortion
        return KnownCamera(self.height, self.width, K, (k1, k2, -p2, p1))

    def of_photo(self, size: tuple[int, int]) -> KnownCamera:
        """The camera of an upright photo of that (width, height)."""
        sensor = self.for_size((max(size), min(size)))
        return sensor.turned().turned().turned() if size[1] > size[0] else sensor

    def for_size(self, size: tuple[int, int]) -> KnownCamera:
        """The same camera at another resolution."""
        scale = np.array([size[0] / self.width, size[1] / self.height, 1.0])
        return KnownCamera(*size, self.K * scale[:, None], self.distortion)

    def ideal(self, xy: np.ndarray) -> np.ndarray:
        """Points [N, 2] as a camera without distortion, with square pixels and a centred axis, would see them."""
        import cv2

        if not len(xy):
            return xy
        rays = cv2.undistortPoints(xy[:, None].astype(np.float64), self.K, np.array(self.distortion))[:, 0]
        return rays * self.K[0, 0] + [self.width / 2, self.height / 2]


def focal_length_camera(focal: float, photos: Sequence[Photo]) -> KnownCamera:
    """The camera of ``--focal-length``: pixels of the photos, which must have one size (either way round).

    Raises:
        InputError: the photos have several sizes, or the focal length cannot be.
    """
    sizes = {tuple(sorted(photo.size)) for photo in photos}
    require(
        len(sizes) == 1,
        "--focal-length",
        "be given for photos of one size",
        f"photos of {len(sizes)} sizes",
        "Give folders of one size each, or leave the option out.",
    )
    width, height = max(sizes.pop()), min(photos[0].size)
    low, high = (bound * width for bound in FOCAL_RANGE)
    require(
        low <= focal <= high,
        "--focal-length",
        f"be {low:.0f} to {high:.0f} pixels for photos of {width}x{height}",
        focal,
        "Give it in pixels: the focal length in millimetres, times the width in pixels, over the sensor's width.",
    )
    return KnownCamera(width, height, np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]))


def read_camera_line(line: str) -> KnownCamera:
    """A camera as COLMAP's cameras.txt has it: ``1 SIMPLE_RADIAL 3072 2304 2559.8 1536 1152 -0.02``; the number in
    front may be missing.

    Raises:
        InputError: the line is none, or of a model that Nerfstudio does not know.
    """
    import pycolmap

    name, usage = "--camera", "Copy a line of COLMAP's cameras.txt."
    words = line.replace(",", " ").split()
    words = words[1:] if words and words[0].isdigit() else words
    require(
        len(words) >= 4 and words[0] in _MODELS,
        name,
        f"be MODEL WIDTH HEIGHT PARAMETERS, with one of {', '.join(sorted(_MODELS))}",
        repr(line),
        usage,
    )
    try:
        width, height = int(words[1]), int(words[2])
        params = [float(word) for word in words[3:]]
        camera = pycolmap.Camera(model=words[0], width=width, height=height, params=params)
        valid = camera.verify_params() and bool(np.isfinite(params).all())
    except ValueError:
        valid = False
    if not valid:
        raise InputError(complaint(name, f"have the parameters of {words[0]}", repr(line), usage))
    bent = {"SIMPLE_RADIAL": params[3:4], "RADIAL": params[3:5], "OPENCV": params[4:8]}.get(words[0], [])
    focal = camera.mean_focal_length()
    low, high = (bound * max(width, height) for bound in FOCAL_RANGE)
    require(low <= focal <= high, f"focal length in {name}", f"be {low:.0f} to {high:.0f} pixels", focal, usage)
    camera_of_line = KnownCamera(width, height, camera.calibration_matrix(), (*bent, *[0.0] * (4 - len(bent))))
    return camera_of_line.turned() if height > width else camera_of_line


def group_cameras(photos: Sequence[Photo], known: KnownCamera | None) -> MappingCameras:
    """One camera for each group of photos of equal size and metadata."""
    keys = list(dict.fromkeys(photo.camera for photo in photos))
    first = {key: next(photo for photo in photos if photo.camera == key) for key in keys}
    frames = [SensorFrame(*first[key].size) for key in keys]
    camera_of = tuple(keys.index(photo.camera) for photo in photos)
    heights = tuple(frame.size[1] for frame in frames)
    if known is not None:
        focal = float(known.K[0, 0]) / max(known.width, known.height)
        return MappingCameras(camera_of, (focal,) * len(keys), (True,) * len(keys), heights, fixed=True)
    priors = [_believable(first[key].focal) for key in keys]
    return MappingCameras(
        camera_of, tuple(prior or 1.0 for prior in priors), tuple(prior is not None for prior in priors), heights
    )


def sensor_points(photo: Photo, xy: np.ndarray, known: KnownCamera | None) -> np.ndarray:
    """Keypoints [N, 2] of an upright photo in the sensor frame; what is known of the lens is taken out."""
    frame = SensorFrame(*photo.size)
    points = frame.from_photo(xy)
    if known is None:
        return points
    sensor = known.for_size((max(photo.size), min(photo.size)))
    scale = SENSOR_WIDTH / sensor.width
    return sensor.ideal(points / scale) * scale


def _believable(focal: float | None) -> float | None:
    return focal if focal is not None and FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1] else None
