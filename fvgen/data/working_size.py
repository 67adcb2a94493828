"""Photos, depth and cameras brought to one working size, intrinsics exactly right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from fvgen.checks import require
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame, Split
from fvgen.data.decoded_frame import DecodedFrame, decode_frame
from fvgen.data.read_capture import read_capture
from fvgen.types import Cameras, Capture, Cover, PointCloud, Progress, no_progress

_FULLY_SEEN = 0.99
"""Least share of a working pixel that the photo must fill for it to be valid."""

_SAME_SHAPE = 0.02
"""Aspect ratios closer than this fraction are one shape: rounding to whole pixels makes them differ."""


def load_capture(folder: Path, *, long_side: int, split: Split = "train") -> tuple[Capture, list[str]]:
    """A split of a capture in memory, and the names of its photos.

    Args:
        folder: the capture.
        long_side: longest side of the working size in pixels; photos are never enlarged to reach it.
        split: "train", "val", "test" or "all".

    Raises:
        InputError: see `fvgen.data.read_capture.read_capture`; or the split holds no photo.
    """
    files = read_capture(folder)
    frames = [files.frames[i] for i in files.split(split)]
    sparse = None if files.points is None else replace(files.points, xyz=files.points.xyz.float())
    return make_capture(frames, long_side, sparse=sparse, depth_unit=files.depth_unit), [f.name for f in frames]


def make_capture(
    frames: Sequence[CaptureFrame],
    long_side: int,
    *,
    sparse: PointCloud | None = None,
    depth_unit: float = DEPTH_UNIT,
    progress: Progress = no_progress,
) -> Capture:
    """Photos of any sizes as one batch.

    The most common shape sets the working size; photos of another shape are scaled to cover it and cropped at the
    centre. Lens distortion is taken out with K kept, and the border that this leaves is marked invalid, as are
    masked and transparent pixels (black in the photo).

    Args:
        frames: V photos with their cameras.
        long_side: longest side in pixels; photos are never enlarged to reach it.
        sparse: points in the frame of the cameras.
        depth_unit: scene units of one step of a depth file.

    Raises:
        InputError: no frames, a size that is not positive, or a file that cannot be read.
    """
    require(len(frames) > 0, "frames", "hold a photo", "none", "Choose a split that has photos.")
    require(long_side >= 1, "long_side", "be at least 1 pixel", long_side, "Give the working size in pixels.")
    size = working_size([frame.size for frame in frames], long_side)
    scaled = []
    for i, frame in enumerate(frames):
        scaled.append(at_size(decode_frame(frame, depth_unit, at_least=2 * max(size)), size))
        progress(i + 1, len(frames), "reading photos")
    return capture_of(scaled, sparse)


def working_size(sizes: Sequence[tuple[int, int]], long_side: int) -> tuple[int, int]:
    """(width, height) for photos of these sizes: the most common size of the most common shape, shrunk so that its
    longer side is ``long_side`` at most. Ties go to the earlier photo."""
    shapes = np.log([width / height for width, height in sizes])
    alike = np.abs(shapes[:, None] - shapes) < _SAME_SHAPE
    common = alike[np.argmax(alike.sum(axis=1))]
    (width, height), _ = Counter(size for size, is_common in zip(sizes, common, strict=True) if is_common).most_common(
        1
    )[0]
    factor = min(1.0, long_side / max(width, height))
    return max(round(width * factor), 1), max(round(height * factor), 1)


@dataclass(frozen=True)
class ScaledFrame:
    """One photo at the working size."""

    rgb: np.ndarray
    """[H, W, 3] float32 in [0, 1], black where it is not valid"""
    valid: np.ndarray
    """[H, W] bool"""
    c2w: np.ndarray
    """[4, 4]"""
    K: np.ndarray
    """[3, 3]"""
    depth: np.ndarray | None
    """[H, W] float32"""


def at_size(decoded: DecodedFrame, size: tuple[int, int]) -> ScaledFrame:
    """The frame at (width, height): undistorted, scaled to cover, cropped at the centre."""
    frame = _of_size(decoded.frame, decoded.size)
    rgb, alpha, depth = _as_floats(decoded)
    if any(frame.distortion):
        rgb, alpha, depth = _undistort(frame, rgb, alpha, depth)
    own, (width, height) = frame.size, size
    cover = Cover.of(own[::-1], (height, width))
    window = np.s_[cover.top : cover.top + height, cover.left : cover.left + width]
    camera = Cameras(torch.from_numpy(frame.c2w)[None], torch.from_numpy(frame.K)[None], own[1], own[0])
    shrunk = cover.width <= own[0] and cover.height <= own[1]

    def scaled(image: np.ndarray) -> np.ndarray:
        way = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
        return cv2.resize(image, (cover.width, cover.height), interpolation=way)[window]

    # copies, because a part would keep the whole in memory
    return ScaledFrame(
        rgb=scaled(rgb).copy(),
        valid=scaled(alpha) > _FULLY_SEEN,
        c2w=frame.c2w,
        K=camera.covering(height, width).K[0].numpy(),
        depth=None if depth is None else _nearest(depth, (cover.width, cover.height))[window].copy(),
    )


def capture_of(scaled: Sequence[ScaledFrame], sparse: PointCloud | None = None) -> Capture:
    """V photos of one size as a batch, with points in the frame of their cameras."""
    height, width = scaled[0].valid.shape
    depths = [np.zeros((height, width), np.float32) if one.depth is None else one.depth for one in scaled]
    return Capture(
        photos=torch.from_numpy(np.stack([one.rgb for one in scaled])).permute(0, 3, 1, 2).contiguous(),
        cameras=Cameras(
            torch.from_numpy(np.stack([one.c2w for one in scaled])).float(),
            torch.from_numpy(np.stack([one.K for one in scaled])).float(),
            height,
            width,
        ),
        valid=torch.from_numpy(np.stack([one.valid for one in scaled])),
        sparse=sparse,
        depths=torch.from_numpy(np.stack(depths)) if any(one.depth is not None for one in scaled) else None,
    )


def _of_size(frame: CaptureFrame, size: tuple[int, int]) -> CaptureFrame:
    """The frame for its photo shrunk to (width, height)."""
    K = frame.K.copy()
    K[:2] *= np.array(size)[:, None] / np.array(frame.size)[:, None]
    return replace(frame, K=K, size=size)


def _as_floats(decoded: DecodedFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Photo [H, W, 3] in [0, 1], alpha [H, W] and depth [H, W] or None, at the size of the pixels."""
    pixels = decoded.pixels.astype(np.float32) / 255
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], np.float32)
    if decoded.mask is not None:
        alpha = alpha * decoded.mask
    depth = None if decoded.depth is None else _nearest(decoded.depth, decoded.size)
    return pixels[..., :3] * alpha[..., None], alpha, depth


def _nearest(depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth at (width, height) by nearest neighbour: a mean over a silhouette would be a depth where nothing is."""
    rows, columns = (
        ((np.arange(count) + 0.5) * extent / count).astype(int)
        for count, extent in zip(size[::-1], depth.shape, strict=True)
    )
    return depth[rows[:, None], columns]


def _undistort(
    frame: CaptureFrame, rgb: np.ndarray, alpha: np.ndarray, depth: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Pixels as a pinhole camera with the same K sees them; alpha 0 where the lens saw nothing."""
    K = frame.K.copy()
    K[:2, 2] -= 0.5  # OpenCV puts pixel centres at whole numbers
    lens = np.array(frame.distortion)
    x, y = cv2.initUndistortRectifyMap(K, lens, np.eye(3), K, frame.size, cv2.CV_32FC1)
    rgb = cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(alpha, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0,))
    alpha = alpha * ~_folded(frame)
    if depth is not None:
        depth = cv2.remap(depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(0,))
        depth = depth * (alpha > 0)
    return rgb, alpha, depth


def _folded(frame: CaptureFrame) -> np.ndarray:
    """[H, W] whether a pixel of the straightened picture lies beyond the radius where the lens's polynomial turns back:
    there it would repeat, mirrored, what the photo shows farther in."""
    (width, height), K = frame.size, frame.K
    x, y = (np.arange(width) + 0.5 - K[0, 2]) / K[0, 0], (np.arange(height) + 0.5 - K[1, 2]) / K[1, 1]
    radius = np.hypot(x[None], y[:, None])
    k1, k2, _, _, k3 = frame.distortion
    steps = np.linspace(0, float(radius.max()), 1000)
    backwards = 1 + 3 * k1 * steps**2 + 5 * k2 * steps**4 + 7 * k3 * steps**6 <= 0
    return radius >= steps[backwards.argmax()] if backwards.any() else np.zeros_like(radius, dtype=bool)
