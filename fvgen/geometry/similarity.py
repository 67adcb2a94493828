"""The similarity between a capture's own frame and the frame that work is done in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """``x_working = scale * (rotation @ x_capture + translation)``: how a dataparser moved the capture."""

    transform: NDArray[Any]
    """[3, 4] rotation and translation"""
    scale: float

    def pose_to_capture(self, c2w: NDArray[Any]) -> NDArray[Any]:
        """[4, 4] camera-to-world from the working frame to the capture's."""
        rotation, translation = self.transform[:, :3], self.transform[:, 3]
        out = np.eye(4)
        out[:3, :3] = rotation.T @ c2w[:3, :3]
        out[:3, 3] = rotation.T @ (c2w[:3, 3] / self.scale - translation)
        return out

    def pose_to_working(self, c2w: NDArray[Any]) -> NDArray[Any]:
        """[4, 4] camera-to-world from the capture's frame to the working one."""
        rotation, translation = self.transform[:, :3], self.transform[:, 3]
        out = np.eye(4)
        out[:3, :3] = rotation @ c2w[:3, :3]
        out[:3, 3] = self.scale * (rotation @ c2w[:3, 3] + translation)
        return out

    def points_to_working(self, xyz: Tensor) -> Tensor:
        """[P, 3] points from the capture's frame to the working one, float32 on the CPU."""
        rotation, translation = self._tensors()
        return (self.scale * (xyz.double().cpu() @ rotation.T + translation)).float()

    def points_to_capture(self, xyz: Tensor) -> Tensor:
        """[P, 3] points from the working frame to the capture's, float64 on the CPU."""
        rotation, translation = self._tensors()
        return (xyz.double().cpu() / self.scale - translation) @ rotation

    def _tensors(self) -> tuple[Tensor, Tensor]:
        transform = torch.from_numpy(self.transform).double()
        return transform[:, :3], transform[:, 3]
