"""Whether the pixels agree with the poses: a check that owes nothing to the matches that the poses came from.

Plane sweep stereo at a low resolution finds a depth for each pixel along its epipolar line; other photos confirm it or
not. With right poses a good part of the picture is confirmed; with wrong ones only what matches by accident. How much
that is, the same photos say: the sweep is repeated with every camera turned a little out of its pose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.sparse_model import SparseModel
from fvgen.types import Cameras, Capture, PointCloud, Progress, no_progress

CHECK_WIDTH = 240
"""Pixels of the sensor's long side at which photos are compared."""
_HYPOTHESES = 64
_NEIGHBOURS = 3
_TURN = 5.0
"""Degrees out of the pose: too far for right poses to stay right, near enough to see the same parts of the scene."""
_AXES = np.array([[0.8, 0.0, 0.6], [-0.6, 0.5, -0.6], [0.0, -0.8, 0.6], [0.6, 0.5, -0.6]])
"""Directions to turn about, camera after camera: neighbours never turn together."""


@dataclass(frozen=True)
class Agreement:
    """How much of each placed photo other photos confirm, in [0, 1]."""

    share: dict[int, float]
    by_accident: dict[int, float]
    """The same with wrong poses."""

    @property
    def total(self) -> float:
        """Sum over the photos of what is confirmed beyond accident."""
        return sum(self.share[i] - self.by_accident[i] for i in self.share)


def check_image(image: np.ndarray) -> np.ndarray:
    """A photo in sensor orientation [H, W, 3] uint8, shrunk to the size it is compared at."""
    height = max(1, round(image.shape[0] * CHECK_WIDTH / image.shape[1]))
    return cv2.resize(np.ascontiguousarray(image), (CHECK_WIDTH, height), interpolation=cv2.INTER_AREA)


def photometric_agreement(
    images: Sequence[np.ndarray], model: SparseModel, progress: Progress = no_progress
) -> Agreement:
    """Compare all placed photos with their neighbours.

    Args:
        images: per photo [H, W, 3] uint8 from `check_image`; heights may differ.
        model: poses to check.
        progress: called after each photo.
    """
    capture = _capture(images, model)
    right = _confirmed(capture, progress)
    wrong = _confirmed(_turned(capture), progress)
    return Agreement(
        dict(zip(model.placed, right, strict=True)),
        dict(zip(model.placed, wrong, strict=True)),
    )


def _confirmed(capture: Capture, progress: Progress) -> list[float]:
    sweep = PlaneSweep(hypotheses=_HYPOTHESES, neighbours=_NEIGHBOURS, slanted_photos=0)
    geometry = sweep.reconstruct(
        capture, lambda done, total, what: progress(done, total, "comparing the photos' pixels")
    )
    known = (geometry.depths > 0).sum(dim=(1, 2))
    return (known / capture.valid.sum(dim=(1, 2)).clamp_min(1)).tolist()


def _capture(images: Sequence[np.ndarray], model: SparseModel) -> Capture:
    """The placed photos without distortion, padded to one height."""
    height = max(images[i].shape[0] for i in model.placed)
    photos = np.zeros((len(model.placed), height, CHECK_WIDTH, 3), np.uint8)
    valid = np.zeros((len(model.placed), height, CHECK_WIDTH), np.uint8)
    intrinsics = np.zeros((len(model.placed), 3, 3))
    for row, i in enumerate(model.placed):
        rows = images[i].shape[0]
        K = model.lenses[i].K * np.array([[CHECK_WIDTH / SENSOR_WIDTH], [rows / model.lenses[i].height], [1.0]])
        photos[row, :rows], valid[row, :rows] = _undistorted(images[i], K, model.lenses[i].k1)
        intrinsics[row] = K
    cameras = Cameras(
        torch.from_numpy(np.stack([model.c2w[i] for i in model.placed])).float(),
        torch.from_numpy(intrinsics).float(),
        height,
        CHECK_WIDTH,
    )
    xyz = torch.from_numpy(model.xyz).float()
    sparse = PointCloud(xyz, torch.zeros_like(xyz), torch.ones(len(xyz)))
    pixels = torch.from_numpy(photos).permute(0, 3, 1, 2).float() / 255
    return Capture(pixels, cameras, torch.from_numpy(valid) > 0, sparse)


def _undistorted(image: np.ndarray, K: np.ndarray, k1: float) -> tuple[np.ndarray, np.ndarray]:
    """The image as a pinhole camera sees it, and where it has pixels."""
    there = np.full(image.shape[:2], 255, np.uint8)
    if k1 == 0:
        return image, there
    at_centres = K.copy()
    at_centres[:2, 2] -= 0.5  # OpenCV counts pixel centres as whole numbers
    coefficients = np.array([k1, 0, 0, 0])
    whole = cv2.undistort(there, at_centres, coefficients) == 255
    return cv2.undistort(image, at_centres, coefficients), whole.astype(np.uint8)


def _turned(capture: Capture) -> Capture:
    """The capture with each camera turned by `_TURN` degrees about its own centre."""
    c2w = capture.cameras.c2w.clone()
    for i in range(len(c2w)):
        axis = _AXES[i % len(_AXES)] / np.linalg.norm(_AXES[i % len(_AXES)])
        turn, _ = cv2.Rodrigues(np.radians(_TURN) * axis)
        c2w[i, :3, :3] = c2w[i, :3, :3] @ torch.from_numpy(turn).float()
    cameras = Cameras(c2w, capture.cameras.K, capture.cameras.height, capture.cameras.width)
    return Capture(capture.photos, cameras, capture.valid, capture.sparse)
