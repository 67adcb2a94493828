"""Nerfstudio's cameras and splits <-> fvgen's cameras and frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataparserOutputs
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame
from fvgen.data.decoded_frame import DecodedFrame, decode_frame
from fvgen.data.frame_checks import check_depth_unit, check_frames
from fvgen.data.lenses import UNDISTORT
from fvgen.geometry.similarity import Similarity
from fvgen.types import Cameras, PointCloud, Progress

T = TypeVar("T")

_MEND = "Mend or export the capture again; without a dataparser's name, fvgen-data finds out what kind it is."


def flip_axes(c2w: Tensor) -> Tensor:
    """[..., 3 or 4, 4] camera-to-world between OpenGL (y up, z back) and OpenCV (y down, z forward)."""
    flipped = c2w.clone()
    flipped[..., :3, 1:3] *= -1
    return flipped


def to_fvgen(cameras: NerfstudioCameras, height: int, width: int) -> Cameras:
    """Nerfstudio's perspective cameras (flat batch, all of size ``height`` x ``width``) as fvgen's."""
    c2w = torch.eye(4).repeat(len(cameras), 1, 1)
    c2w[:, :3] = flip_axes(cameras.camera_to_worlds.detach().cpu().float())
    return Cameras(c2w, cameras.get_intrinsics_matrices().cpu().float(), height, width)


def to_nerfstudio(
    frames: Sequence[CaptureFrame], poses: Tensor, distortion_params: Tensor | None = None
) -> NerfstudioCameras:
    """The cameras of a capture's frames as Nerfstudio's perspective cameras, each of its own size.

    Args:
        frames: F frames, whose intrinsics and sizes count.
        poses: [F, 3, 4] camera-to-world, OpenGL axes.
        distortion_params: [F, 6] Nerfstudio's k1 k2 k3 k4 p1 p2; None for none.
    """
    K = torch.from_numpy(np.stack([frame.K for frame in frames])).float()
    size = torch.tensor([frame.size for frame in frames])
    return NerfstudioCameras(
        camera_to_worlds=poses.float(),
        fx=K[:, 0, 0, None],
        fy=K[:, 1, 1, None],
        cx=K[:, 0, 2, None],
        cy=K[:, 1, 2, None],
        width=size[:, :1],
        height=size[:, 1:],
        distortion_params=distortion_params,
        camera_type=CameraType.PERSPECTIVE,
    )


def concatenate(first: NerfstudioCameras, second: NerfstudioCameras) -> NerfstudioCameras:
    """Both batches of perspective cameras after one another; each keeps its own sizes."""

    def join(name: str) -> Tensor:
        return torch.cat([getattr(first, name).float(), getattr(second, name).float()])

    distortion = [
        torch.zeros(len(c), 6) if c.distortion_params is None else c.distortion_params for c in (first, second)
    ]
    return NerfstudioCameras(
        camera_to_worlds=join("camera_to_worlds"),
        fx=join("fx"),
        fy=join("fy"),
        cx=join("cx"),
        cy=join("cy"),
        width=join("width").long(),
        height=join("height").long(),
        distortion_params=torch.cat(distortion),
        camera_type=torch.cat([first.camera_type, second.camera_type]),
        metadata={},
    )


def read_outputs(parser: DataParser, split: str) -> DataparserOutputs:
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


@dataclass(frozen=True)
class CaptureSplit:
    """The photos of a split, as Nerfstudio describes them and as fvgen does; both in the dataparser's frame."""

    outputs: DataparserOutputs
    frames: tuple[CaptureFrame, ...]
    """One per image of ``outputs``."""
    sparse: PointCloud | None
    """The capture's own points; None when it has none."""
    similarity: Similarity
    """From the capture's own frame to the dataparser's."""
    depth_unit: float
    """Units of the dataparser's frame that one step of a depth file stands for."""

    @staticmethod
    def read(parser: DataParser, split: str) -> CaptureSplit:
        """What a dataparser reads for "train", "val" or "test".

        Raises:
            InputError: the dataparser fails, or as `of`.
        """
        return CaptureSplit.of(read_outputs(parser, split))

    @staticmethod
    def of(outputs: DataparserOutputs) -> CaptureSplit:
        """What a dataparser has read.

        Raises:
            InputError: a camera is no perspective camera, or points are not finite.
        """
        unit = float(outputs.metadata.get("depth_unit_scale_factor", DEPTH_UNIT))
        scale = float(outputs.dataparser_scale)
        return CaptureSplit(
            outputs=outputs,
            frames=tuple(_frames(outputs)),
            sparse=_sparse_points(outputs),
            similarity=Similarity(outputs.dataparser_transform.double().numpy()[:3], scale),
            depth_unit=unit * scale,
        )

    def check_training(self) -> None:
        """Refuse photos that cannot train together, from their descriptions and headers and from measured depth.

        Raises:
            InputError: see `fvgen.data.frame_checks.check_frames` and `fvgen.data.frame_checks.check_depth_unit`.
        """
        check_frames(self.frames, decode=False)
        check_depth_unit(self.frames, self.sparse, self.depth_unit)

    def decode(
        self, work: Callable[[DecodedFrame], T], at_least: int, progress: Progress
    ) -> tuple[CaptureSplit, list[T]]:
        """Decode each photo, once, and give it to ``work``; photos that cannot be read are left out, and noted.

        Args:
            work: what is done with it.
            at_least: longest side that it needs (`fvgen.data.decoded_frame.decode_frame`).
            progress: told how many photos are read.

        Returns:
            The split of the other photos, and what ``work`` made of each.
        """
        kept: dict[int, T] = {}
        faults: list[str] = []
        for i, frame in enumerate(self.frames):
            try:
                kept[i] = work(decode_frame(frame, self.depth_unit, at_least=at_least))
            except InputError as error:
                faults.append(str(error))
            progress(i + 1, len(self.frames), "reading photos")
        return (self._part(list(kept), faults) if faults else self), list(kept.values())

    def _part(self, kept: list[int], faults: list[str]) -> CaptureSplit:
        """The given photos alone, with a note on why the others are left out."""

        def part(values: list | None) -> list:
            return [values[i] for i in kept] if values else []

        note = f"Left out {len(faults)} of {len(self.frames)} photos: {' '.join(faults)}"
        outputs = self.outputs
        metadata = {
            **outputs.metadata,
            "depth_filenames": part(outputs.metadata.get("depth_filenames")) or None,
            "notes": [*outputs.metadata.get("notes", []), note],
        }
        outputs = replace(
            outputs,
            image_filenames=part(outputs.image_filenames),
            mask_filenames=part(outputs.mask_filenames) or None,
            cameras=outputs.cameras[torch.tensor(kept, dtype=torch.long)],
            metadata=metadata,
        )
        return replace(self, outputs=outputs, frames=tuple(self.frames[i] for i in kept))

    @property
    def notes(self) -> list[str]:
        """What the user should know of these photos."""
        return list(self.outputs.metadata.get("notes", []))

    def scene_scale(self, points: PointCloud | None) -> float:
        """Typical distance from the cameras to what they see, in scene units.

        The median depth of the points in front of the cameras; without points, the spread of the cameras.
        """
        positions = np.stack([frame.c2w[:3, 3] for frame in self.frames])
        spread = float(np.max(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))
        if points is None or not len(points):
            return max(spread, 1e-6)
        xyz = points.xyz.double().cpu().numpy()
        forward = np.stack([frame.c2w[:3, 2] for frame in self.frames])
        depth = ((xyz[None] - positions[:, None]) * forward[:, None]).sum(axis=-1)
        in_front = depth[depth > 0]
        return float(np.median(in_front)) if len(in_front) else max(spread, 1e-6)


def _frames(outputs: DataparserOutputs) -> list[CaptureFrame]:
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
            exif_ignored=path in outputs.metadata.get("exif_ignored", ()),
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


def _sparse_points(outputs: DataparserOutputs) -> PointCloud | None:
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
