"""One of the user's photos as the folder of views keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class StoredPhoto:
    """A photo, its camera, and where it counts."""

    name: str
    """Name of its file."""
    content: Path | bytes
    """The file, which is copied byte for byte; or a PNG of its pixels, where other tools would misread the file."""
    c2w: np.ndarray
    """[4, 4] in the working frame, OpenCV axes."""
    K: np.ndarray
    """[3, 3] for the photo's own size."""
    size: tuple[int, int]
    """(width, height)"""
    distortion: tuple[float, ...] = (0.0,) * 5
    """OpenCV's k1 k2 p1 p2 k3."""
    mask: np.ndarray | None = None
    """[height, width] bool: where the photo counts; None where it counts whole."""

    @property
    def file_name(self) -> str:
        """Name of its file in the folder, after the frame's number."""
        suffix = Path(self.name).suffix.lower() if isinstance(self.content, Path) else ".png"
        return f"{Path(self.name).stem}{suffix}"

    @property
    def lens(self) -> dict[str, float]:
        """Its distortion as a frame of ``transforms.json`` has it; empty where there is none."""
        names = ("k1", "k2", "p1", "p2", "k3")
        return dict(zip(names, self.distortion, strict=True)) if any(self.distortion) else {}

    def depth_or_blank(self, depth: Tensor | None) -> Tensor:
        """[H, W] the depth where it belongs to the photo as it is stored, else zeros of the photo's shape.

        Args:
            depth: [H, W] at the working size; left out where lens or crop make it another picture than the photo.
        """
        (width, height), blank = self.size, torch.zeros(self.size[::-1])
        if depth is None:
            return blank
        if abs(depth.shape[1] * height - depth.shape[0] * width) > max(self.size):
            return blank
        return torch.zeros(depth.shape) if any(self.distortion) else depth
