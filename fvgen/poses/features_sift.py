"""SIFT keypoints (Lowe, IJCV 2004) by pycolmap, with settings for few photos: more keypoints, a milder ratio test."""

from __future__ import annotations

import cv2
import numpy as np

from fvgen.poses.features import Features, MatcherName
from fvgen.poses.mapping import quiet
from fvgen.poses.sensor_frame import SENSOR_WIDTH

_KEYPOINTS = 4096
"""Most keypoints of a photo, the largest first. Matching all with all takes four times as long for twice as many."""
_PEAK_THRESHOLD = 0.003
"""Half of COLMAP's default: few photos need every keypoint."""
_LARGEST_RATIO = 0.9
"""Distance to the best match over that to the second best; COLMAP's default of 0.8 leaves too few."""
_WIDEST = 1600
"""Pixels of the long side, above which time grows and nothing else."""


class SiftMatcher:
    """SIFT keypoints and their mutual nearest neighbours."""

    name: MatcherName = "sift"
    parallel = False  # pycolmap's matcher keeps the last photo's index

    def __init__(self) -> None:
        import pycolmap

        quiet(pycolmap)
        extraction = pycolmap.FeatureExtractionOptions()
        extraction.num_threads = 1
        extraction.sift.max_num_features = _KEYPOINTS
        extraction.sift.peak_threshold = _PEAK_THRESHOLD
        self._extractor = pycolmap.FeatureExtractor.create(extraction, device=pycolmap.Device.cpu)
        matching = pycolmap.FeatureMatchingOptions()
        matching.num_threads = 1
        matching.sift.max_ratio = _LARGEST_RATIO
        self._matcher = pycolmap.FeatureMatcher.create(matching, device=pycolmap.Device.cpu)

    def extract(self, photo: np.ndarray) -> Features:
        """Keypoints of an upright photo [H, W, 3] uint8."""
        import pycolmap

        grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, _WIDEST / max(grey.shape))
        scale = max(scale, SENSOR_WIDTH / max(grey.shape)) if max(grey.shape) < SENSOR_WIDTH else scale
        if scale != 1:
            way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=way)
        keypoints, descriptors = self._extractor.extract_from_uint8_array(grey)
        places = pycolmap.keypoints_to_matrix(keypoints)[:, :2].astype(np.float64)
        factor = [photo.shape[1] / grey.shape[1], photo.shape[0] / grey.shape[0]]
        return Features(places * factor, (keypoints, descriptors))

    def match(self, first: Features, second: Features) -> np.ndarray:
        """[M, 2] int64 matches."""
        if not len(first) or not len(second):
            return np.zeros((0, 2), dtype=np.int64)
        return self._matcher.match(*first.descriptors, *second.descriptors).astype(np.int64)
