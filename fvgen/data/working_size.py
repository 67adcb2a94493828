"""Photos, depth and cameras brought to one working size, intrinsics exactly right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from fvgen.checks import require
from fvgen.data.capture import CaptureFiles, CaptureFrame
from fvgen.data.photos import read_photo
from fvgen.data.transforms_json import read_transforms
from fvgen.geometry.points import read_ply
from fvgen.types import Cameras, Capture, PointCloud, Progress, no_progress


def load_capture(folder: Path, *, long_side: int, split: str = "train") -> tuple[Capture, list[str]]:
    """A split of a ``transforms.json`` capture in memory, and the names of its photos.

    Args:
        folder: the capture.
        long_side: longest side of the working size in pixels; photos are never enlarged.
        split: "train", "val", "test" or "all".
    """
    files = read_transforms(folder)
    frames = [files.frames[i] for i in files.split(split)]
    sparse = None if files.sparse_ply is None else read_ply(files.sparse_ply)
    return make_capture(frames, long_side, sparse=sparse, depth_unit=files.depth_unit), [f.name for f in frames]


def make_capture(
    frames: Sequence[CaptureFrame],
    long_side: int,
    *,
    sparse: PointCloud | None = None,
    depth_unit: float = 1e-3,
    progress: Progress = no_progress,
) -> Capture:
    """Photos of any sizes as one batch.

    The most common shape sets the working size; photos of another shape are scaled to cover it and cropped at the
    centre. Lens distortion is taken out with K kept, and the border that this leaves is marked invalid.

    Args:
        frames: V photos with their cameras.
        long_side: longest side in pixels; photos are never enlarged.
        sparse: points in the frame of the cameras.
        depth_unit: scene units of one step of a depth file.
    """
    width, height = Counter(frame.size for frame in frames).most_common(1)[0][0]
    factor = min(1.0, long_side / max(width, height))
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    photos, valids, Ks, depths = [], [], [], []
    for i, frame in enumerate(frames):
        photo, valid, K, depth = _at_size(frame, size, depth_unit)
        photos.append(photo)
        valids.append(valid)
        Ks.append(K)
        depths.append(depth)
        progress(i + 1, len(frames), "reading photos")
    measured = [d for d in depths if d is not None]
    return Capture(
        photos=torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2).float().contiguous(),
        cameras=Cameras(
            torch.from_numpy(np.stack([f.c2w for f in frames])).float(),
            torch.from_numpy(np.stack(Ks)).float(),
            size[1],
            size[0],
        ),
        valid=torch.from_numpy(np.stack(valids)),
        sparse=sparse,
        depths=torch.from_numpy(
            np.stack([np.zeros(size[::-1], np.float32) if d is None else d for d in depths])
        ).float()
        if measured
        else None,
    )


def _at_size(
    frame: CaptureFrame, size: tuple[int, int], depth_unit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Photo [H, W, 3] in [0, 1], valid [H, W], K [3, 3] and depth [H, W] of one frame at (width, height)."""
    pixels = read_photo(frame.photo, frame.size).astype(np.float32) / 255
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], np.float32)
    rgb = pixels[..., :3] * alpha[..., None]
    if frame.mask is not None:
        with Image.open(frame.mask) as file:
            mask = np.asarray(file.convert("L").resize(frame.size, Image.Resampling.NEAREST)) > 127
        alpha = alpha * mask
    depth = None if frame.depth is None else read_depth(frame.depth, depth_unit)
    if any(frame.distortion):
        rgb, alpha, depth = _undistort(frame, rgb, alpha, depth)
    (width, height), (w, h) = frame.size, size
    scale = max(w / width, h / height)
    cover = (max(round(width * scale), w), max(round(height * scale), h))
    left, top = (cover[0] - w) // 2, (cover[1] - h) // 2
    window = np.s_[top : top + h, left : left + w]
    K = frame.K.copy()
    K[0] *= cover[0] / width
    K[1] *= cover[1] / height
    K[0, 2] -= left
    K[1, 2] -= top
    photo = cv2.resize(rgb, cover, interpolation=cv2.INTER_AREA)[window]
    valid = cv2.resize(alpha, cover, interpolation=cv2.INTER_AREA)[window] > 0.99
    if depth is not None:
        # nearest: a mean over a silhouette would be a depth where nothing is
        depth = cv2.resize(depth, cover, interpolation=cv2.INTER_NEAREST)[window]
    return photo, valid, K, depth


def read_depth(path: Path, unit: float) -> np.ndarray:
    """[H, W] float32 depth in scene units, 0 where unknown, from a 16-bit PNG or an .npy file (both in steps of
    ``unit``, as Nerfstudio reads them)."""
    if path.suffix == ".npy":
        raw = np.load(path, allow_pickle=False)
    else:
        with Image.open(path) as file:
            raw = np.asarray(file)
    require(raw.ndim == 2, f"depth {path.name}", "be one channel", raw.shape, "Store depth as a 16-bit greyscale PNG.")
    depth = raw.astype(np.float32) * unit
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)


def _undistort(
    frame: CaptureFrame, rgb: np.ndarray, alpha: np.ndarray, depth: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Pixels as a pinhole camera with the same K sees them; alpha 0 where the lens saw nothing."""
    width, height = frame.size
    K = frame.K.copy()
    K[:2, 2] -= 0.5  # OpenCV puts pixel centres at whole numbers
    maps = cv2.initUndistortRectifyMap(K, np.array(frame.distortion), None, K, (width, height), cv2.CV_32FC1)
    rgb = cv2.remap(rgb, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(alpha, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    if depth is not None and depth.shape == (height, width):
        depth = cv2.remap(depth, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return rgb, alpha, depth


def check_depths(files: CaptureFiles, indices: Sequence[int]) -> None:
    """Refuse depth files of another shape than their photo."""
    for i in indices:
        frame = files.frames[i]
        if frame.depth is None:
            continue
        shape = read_depth(frame.depth, files.depth_unit).shape
        ratio = (shape[1] / frame.size[0], shape[0] / frame.size[1])
        require(
            abs(ratio[0] / ratio[1] - 1) < 0.02,
            f"depth {frame.depth.name}", f"have the shape of its photo ({frame.size[0]}x{frame.size[1]})",
            f"{shape[1]}x{shape[0]}", "Align depth to colour first.",
        )  # fmt: skip
