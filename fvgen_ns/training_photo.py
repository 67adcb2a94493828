"""A photo as a splat is trained on it: shrunk, without its lens's distortion, with a camera that is exactly its own."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.decoded_frame import DecodedFrame
from fvgen.data.lenses import UNDISTORT

_WHOLE = 252
"""Least value of 255 at which a mask shows the whole of a pixel; below, it is mixed with what the mask hides."""


@dataclass(frozen=True)
class Lens:
    """Takes distortion out of a picture; intrinsics as OpenCV has them, with pixel centres at whole numbers."""

    K: np.ndarray
    """[3, 3] of the picture as the lens drew it."""
    distortion: np.ndarray
    """k1 k2 p1 p2 k3"""
    straight: np.ndarray
    """[3, 3] of the picture without distortion."""


@dataclass(frozen=True)
class TrainingCamera:
    """The pinhole camera of the picture that a photo becomes."""

    shrunk: tuple[int, int]
    """(width, height) of the photo's shrunk picture."""
    lens: Lens | None
    """Lens of the shrunk picture; None where the photo has no distortion."""
    crop: tuple[int, int, int, int]
    """Left, top, width and height of the final picture in the shrunk one: what has no black border."""
    K: np.ndarray
    """[3, 3] intrinsics of the final picture, pixel centres at +0.5."""

    @staticmethod
    def of(frame: CaptureFrame, image_size: int) -> TrainingCamera:
        """For a longest side of ``image_size`` pixels; smaller photos stay as they are.

        Raises:
            InputError: a lens that leaves no picture.
        """
        factor = min(1.0, image_size / max(frame.size))
        width, height = (max(round(side * factor), 1) for side in frame.size)
        K = frame.K.astype(np.float64)
        K[0] *= width / frame.size[0]  # each side is rounded in its own way
        K[1] *= height / frame.size[1]
        if not any(frame.distortion):
            return TrainingCamera((width, height), None, (0, 0, width, height), K)
        K[:2, 2] -= 0.5
        distortion = np.array(frame.distortion)
        straight, (left, top, across, down) = cv2.getOptimalNewCameraMatrix(K, distortion, (width, height), 0)
        found = f"k1 k2 p1 p2 k3 of {', '.join(f'{value:g}' for value in frame.distortion)}"
        require(
            min(across, down) > 0, f"the distortion of {frame.name}", "leave a picture when taken out", found, UNDISTORT
        )
        final = straight + np.array([[0, 0, 0.5 - left], [0, 0, 0.5 - top], [0, 0, 0]])
        return TrainingCamera((width, height), Lens(K, distortion, straight), (left, top, across, down), final)

    def picture(self, pixels: np.ndarray) -> np.ndarray:
        """[h, w(, C)] uint8 of a photo [H, W(, C)] uint8, or of its mask."""
        if pixels.shape[1::-1] != self.shrunk:
            # a box filter would move details by up to an eighth of a pixel where the factor is no whole number
            pixels = np.asarray(Image.fromarray(pixels).resize(self.shrunk, Image.Resampling.HAMMING))
        if self.lens is not None:
            pixels = cv2.undistort(pixels, self.lens.K, self.lens.distortion, None, self.lens.straight)
        left, top, width, height = self.crop
        return np.array(pixels[top : top + height, left : left + width])  # a copy: torch wants to be able to write


@dataclass(frozen=True)
class TrainingPhoto:
    """A photo as it is trained on or compared with."""

    image: np.ndarray
    """[H, W, 3 or 4] uint8"""
    mask: np.ndarray | None
    """[H, W] bool: where it counts; None where it counts whole."""

    @staticmethod
    def of(decoded: DecodedFrame, image_size: int) -> TrainingPhoto:
        """For a longest side of ``image_size`` pixels.

        Raises:
            InputError: see `TrainingCamera.of`.
        """
        camera = TrainingCamera.of(decoded.frame, image_size)
        mask = None if decoded.mask is None else camera.picture(255 * decoded.mask.astype(np.uint8)) > _WHOLE
        return TrainingPhoto(camera.picture(decoded.pixels), mask)
