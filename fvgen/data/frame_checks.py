"""Checks of a capture's photos before any work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.depth_files import check_depth_size, read_depth
from fvgen.data.masks import check_mask_size, read_mask, require_white
from fvgen.data.photos import check_photo_size, check_whole
from fvgen.data.points_in_photos import pixels_at, points_in_photo
from fvgen.devices import cpu_count
from fvgen.geometry.cameras import check_camera, check_cameras
from fvgen.types import Cameras, PointCloud

_FEWEST_PIXELS = 8
"""Below the side of a correlation window nothing can be matched, or filmed."""
_FOCAL_LENGTHS = (0.1, 100)
"""In longer sides of the photo: from beyond the widest perspective lens to a telescope."""
_UNIT_TOLERANCE = 3.0
"""Measured depth this many times nearer or farther than the sparse points has a wrong unit; occlusion does less."""
_FEWEST_MEASURED = 20
"""Sparse points that must have a measured depth before its unit is checked against them."""


def check_frame(frame: CaptureFrame) -> None:
    """Refuse a frame that cannot be used, from its description and its photo's header alone.

    Raises:
        InputError: a pose that is not a rigid motion, intrinsics or distortion that no lens has, a photo that is
            missing, no image, tiny or of another size, a depth map or mask that does not fit the photo.
    """
    check_camera(torch.from_numpy(frame.c2w).double(), torch.from_numpy(frame.K).double(), frame.name)
    require(
        bool(np.isfinite(frame.distortion).all()),
        f"the distortion of {frame.name}",
        "be finite",
        frame.distortion,
        "Run ns-process-data again.",
    )
    check_photo_size(frame.photo, frame.size)
    _check_lens(frame)
    require(
        min(frame.size) >= _FEWEST_PIXELS,
        f"photo {frame.photo}",
        f"have at least {_FEWEST_PIXELS} pixels on each side",
        f"{frame.size[0]}x{frame.size[1]}",
        "Use the photo at its full size.",
    )
    if frame.mask not in (None, frame.photo):
        check_mask_size(frame.mask, frame.size)
    if frame.depth is not None:
        check_depth_size(frame.depth, frame.size)


def _check_lens(frame: CaptureFrame) -> None:
    """Refuse intrinsics that belong to no lens, or to this photo at another size."""
    size, focal, centre = np.array(frame.size), frame.K[[0, 1], [0, 1]], frame.K[:2, 2]
    again = "Give the intrinsics in pixels of this photo, or run ns-process-data again."
    low, high = _FOCAL_LENGTHS
    require(
        bool((focal >= low * size.max()).all() and (focal <= high * size.max()).all()),
        f"the focal length of {frame.name}",
        f"be {low} to {high} times the photo's longer side of {size.max()} pixels",
        tuple(focal.tolist()),
        again,
    )
    require(
        bool((centre >= -size).all() and (centre <= 2 * size).all()),
        f"the principal point of {frame.name}",
        "lie within the photo or a photo's size of it",
        tuple(centre.tolist()),
        again,
    )


def require_training_photos(count: int) -> None:
    """Refuse a capture that trains on fewer than two photos."""
    require(
        count >= 2,
        "capture",
        "have at least 2 photos to train on",
        count,
        "Take more photos, or fix the split that the capture names.",
    )


def check_frames(frames: Sequence[CaptureFrame], *, decode: bool = True) -> None:
    """Refuse photos that cannot train together, whatever reader they came from.

    Args:
        frames: the photos that train.
        decode: whether each photo, mask and depth map is decoded to the end, which finds truncated files.

    Raises:
        InputError: fewer than two photos, two equal poses, a truncated file, or anything that `check_frame` refuses.
    """
    require_training_photos(len(frames))
    for frame in frames:
        check_frame(frame)
    c2w = torch.from_numpy(np.stack([frame.c2w for frame in frames])).double()
    K = torch.from_numpy(np.stack([frame.K for frame in frames])).double()
    width, height = frames[0].size
    check_cameras(Cameras(c2w, K, height, width), [frame.name for frame in frames])
    if decode:
        check_photos(frames)


def check_photos(frames: Sequence[CaptureFrame]) -> None:
    """Decode every photo, mask and depth map to its end.

    Raises:
        InputError: as `check_pixels` and `fvgen.data.depth_files.read_depth`, for the first file that is damaged.
    """

    def decode(frame: CaptureFrame) -> None:
        check_pixels(frame)
        if frame.depth is not None:
            read_depth(frame.depth, unit=1.0)

    with ThreadPoolExecutor(cpu_count()) as pool:  # decoders release the interpreter's lock
        list(pool.map(decode, frames))


def check_pixels(frame: CaptureFrame) -> None:
    """Decode a photo and its mask to their ends, once for as long as the files stay as they are.

    Raises:
        InputError: one of them is truncated or otherwise damaged, or leaves no pixel to train on.
    """
    files = [path for path in (frame.photo, frame.mask) if path is not None]
    changed = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    _check_pixels(frame.photo, frame.mask, frame.size, changed)


@lru_cache(maxsize=10_000)
def _check_pixels(photo: Path, mask: Path | None, size: tuple[int, int], changed: tuple) -> None:
    check_whole(photo)
    if mask not in (None, photo):
        require_white(mask, read_mask(mask, size))


def check_depth_unit(frames: Sequence[CaptureFrame], points: PointCloud | None, unit: float) -> None:
    """Refuse measured depth that is many times nearer or farther than the sparse points.

    Args:
        frames: the photos that train.
        points: sparse points in the frame of the cameras; without enough of them nothing is refused.
        unit: scene units of one step of a depth file.

    Raises:
        InputError: the unit is wrong, or a depth file is damaged.
    """
    with_depth = [frame for frame in frames if frame.depth is not None]
    if points is None or not with_depth:
        return
    xyz = points.xyz.double().cpu().numpy()
    ratios = np.concatenate([_depth_ratios(frame, xyz, unit) for frame in with_depth])
    if len(ratios) < _FEWEST_MEASURED:
        return
    ratio = float(np.median(ratios))
    require(
        1 / _UNIT_TOLERANCE < ratio < _UNIT_TOLERANCE,
        "depth_unit_scale_factor",
        "put measured depth where the sparse points are",
        f"depth {ratio:.3g} times as far as them",
        f"Divide depth_unit_scale_factor in transforms.json by {ratio:.3g}, or remove depth_file_path from the frames.",
    )


def _depth_ratios(frame: CaptureFrame, xyz: np.ndarray, unit: float) -> np.ndarray:
    """[M] measured depth over distance for the points [P, 3] that the photo measures."""
    assert frame.depth is not None
    _, places, distances = points_in_photo(frame, xyz)
    measured = pixels_at(read_depth(frame.depth, unit), places)
    return (measured / distances)[measured > 0]
