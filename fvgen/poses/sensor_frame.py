"""The frame that matches and mapping work in: the camera's sensor, lying on its long side, scaled to one width.

A photo in portrait format is the same camera held upright: turned back, it shares focal length and lens with the
photos in landscape format. One width for all makes every tolerance in pixels mean the same for each photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SENSOR_WIDTH = 1024
"""Width of the sensor frame in pixels."""


@dataclass(frozen=True)
class SensorFrame:
    """Between an upright photo's pixels and the sensor frame; pixel centres lie at +0.5 in both."""

    width: int
    """Width of the upright photo in pixels."""
    height: int

    @property
    def turned(self) -> bool:
        """Whether the photo stands upright (portrait format)."""
        return self.height > self.width

    @property
    def scale(self) -> float:
        """Pixels of the sensor frame for one pixel of the photo."""
        return SENSOR_WIDTH / max(self.width, self.height)

    @property
    def size(self) -> tuple[float, float]:
        """(width, height) in pixels of the sensor frame; the height may be a fraction."""
        return float(SENSOR_WIDTH), min(self.width, self.height) * self.scale

    def from_photo(self, xy: np.ndarray) -> np.ndarray:
        """Points [N, 2] of the upright photo as points of the sensor frame; a quarter turn keeps the handedness."""
        xy = np.asarray(xy, dtype=np.float64)
        return self.scale * (np.stack([xy[:, 1], self.width - xy[:, 0]], axis=1) if self.turned else xy)

    def image_from_photo(self, pixels: np.ndarray) -> np.ndarray:
        """An upright image [H, W, ...] of any resolution, turned as the sensor lies."""
        return np.rot90(pixels) if self.turned else pixels

    def upright_pose(self, c2w: np.ndarray) -> np.ndarray:
        """[4, 4] camera-to-world of the upright photo from that of the sensor, OpenCV axes both."""
        if not self.turned:
            return c2w.copy()
        upright = c2w.copy()
        upright[:3, 0], upright[:3, 1] = -c2w[:3, 1], c2w[:3, 0]
        return upright
