"""What any of Nerfstudio's dataparsers read, as the frames that fvgen works on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataparserOutputs

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame, check_depth_unit, check_frame, check_frames, check_photos
from fvgen.data.transforms_json import UNDISTORT
from fvgen.geometry.similarity import Similarity
from fvgen.types import PointCloud
from fvgen_ns.camera_axes import flip_axes

_MEND = "Mend or export the capture again; without a dataparser's name, fvgen-data finds out what kind it is."


def read_split(parser: DataParser, split: str) -> DataparserOutputs:
    """What a dataparser reads.

    Raises:
        InputError: it refuses the capture, or fails on it: Nerfstudio's own do so with errors of many kinds.
    """
    try:
        return parser.get_dataparser_outputs(split=split)
    except InputError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        rule = f"be a capture that Nerfstudio's dataparser {type(parser).__name__} can read"
        cure = UNDISTORT if isinstance(error, NotImplementedError) else _MEND  # a lens it does not know
        raise InputError(complaint("--data", rule, f"{parser.config.data} ({cause})", cure)) from error


def capture_frames(outputs: DataparserOutputs) -> list[CaptureFrame]:
    """The photos of a split, in the dataparser's frame.

    Raises:
        InputError: a camera that is no perspective camera.
    """
    cameras = outputs.cameras
    types = {int(kind) for kind in cameras.camera_type.flatten()}
    require(
        types <= {CameraType.PERSPECTIVE.value},
        "cameras",
        "be perspective cameras",
        sorted(CameraType(kind).name for kind in types),
        UNDISTORT,
    )
    c2w = torch.eye(4, dtype=torch.float64).repeat(len(cameras), 1, 1)
    c2w[:, :3] = flip_axes(cameras.camera_to_worlds.double())
    K = cameras.get_intrinsics_matrices().double()
    depths = outputs.metadata.get("depth_filenames") or [None] * len(cameras)
    masks: list[Path | None] = list(outputs.mask_filenames or []) or [None] * len(cameras)
    return [
        CaptureFrame(
            name=path.name,
            photo=path,
            c2w=c2w[i].numpy(),
            K=K[i].numpy(),
            size=(int(cameras.width[i]), int(cameras.height[i])),
            distortion=_distortion(cameras.distortion_params, i),
            depth=depths[i],
            mask=masks[i],
        )
        for i, path in enumerate(outputs.image_filenames)
    ]


def _distortion(parameters: torch.Tensor | None, index: int) -> tuple[float, ...]:
    """OpenCV's k1 k2 p1 p2 k3 from Nerfstudio's k1 k2 k3 k4 p1 p2."""
    if parameters is None:
        return (0.0,) * 5
    k1, k2, k3, k4, p1, p2 = (float(value) for value in parameters[index])
    require(k4 == 0, "distortion k4", "be 0 for a perspective camera", k4, UNDISTORT)
    return k1, k2, p1, p2, k3


def sparse_points(outputs: DataparserOutputs) -> PointCloud | None:
    """The capture's sparse points in the dataparser's frame, or None when there are none.

    Raises:
        InputError: points that are not finite.
    """
    xyz = outputs.metadata.get("points3D_xyz")
    if xyz is None or not len(xyz):
        return None
    require(
        bool(torch.isfinite(xyz).all()),
        "sparse points",
        "be finite",
        "NaN or infinite coordinates",
        "Export the point cloud again.",
    )
    rgb = outputs.metadata["points3D_rgb"].float() / 255
    return PointCloud(xyz.float(), rgb, torch.ones(len(xyz)))


def similarity(outputs: DataparserOutputs) -> Similarity:
    """How the dataparser moved the capture."""
    return Similarity(outputs.dataparser_transform.double().numpy()[:3], float(outputs.dataparser_scale))


def check_outputs(outputs: DataparserOutputs) -> None:
    """Refuse a training split that cannot be used, before anything is written.

    Raises:
        InputError: see `fvgen.data.capture.check_frames` and `fvgen.data.capture.check_depth_unit`.
    """
    frames = capture_frames(outputs)
    check_frames(frames)
    check_depth_unit(frames, sparse_points(outputs), depth_unit(outputs))


def depth_unit(outputs: DataparserOutputs) -> float:
    """Units of the dataparser's frame that one step of a depth file stands for."""
    return float(outputs.metadata.get("depth_unit_scale_factor", DEPTH_UNIT)) * outputs.dataparser_scale


def check_held_out(outputs: DataparserOutputs) -> None:
    """Refuse photos that could not be compared with, before hours of training end in them.

    Raises:
        InputError: see `fvgen.data.capture.check_frame` and `fvgen.data.capture.check_photos`.
    """
    frames = capture_frames(outputs)
    for frame in frames:
        check_frame(frame)
    check_photos(frames)


def scene_scale(frames: list[CaptureFrame], points: PointCloud | None) -> float:
    """Typical distance from the cameras to what they see, in scene units.

    The median depth of the points in front of the cameras; without points, the spread of the cameras.
    """
    positions = np.stack([frame.c2w[:3, 3] for frame in frames])
    spread = float(np.max(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))
    if points is None or not len(points):
        return max(spread, 1e-6)
    xyz = points.xyz.double().cpu().numpy()
    forward = np.stack([frame.c2w[:3, 2] for frame in frames])
    depth = ((xyz[None] - positions[:, None]) * forward[:, None]).sum(axis=-1)
    in_front = depth[depth > 0]
    return float(np.median(in_front)) if len(in_front) else max(spread, 1e-6)
