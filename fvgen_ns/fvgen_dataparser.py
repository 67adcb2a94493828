"""A dataparser for sparse captures: finds out what the folder is, refuses what cannot be used, trains on every photo
that is not held out. Registered on its own, because Nerfstudio loads dataparsers while its datamanagers are half
imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from nerfstudio.cameras.camera_utils import auto_orient_and_center_poses
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE

from fvgen.data.capture import CaptureFiles, CaptureFrame, Split
from fvgen.data.read_capture import read_capture
from fvgen.types import PointCloud
from fvgen_ns.frames import flip_axes, to_nerfstudio

NOTHING_HELD_OUT = "[yellow]The capture holds no photos back for {split}: showing the training photos instead."


@dataclass
class FVGenDataParserConfig(DataParserConfig):
    """Sparse captures as Nerfstudio, COLMAP, Blender, OpenSfM or Polycam write them."""

    _target: type = field(default_factory=lambda: FVGenDataParser)
    data: Path = Path()
    """Capture: folder with transforms.json, a COLMAP model, Blender's transforms_train.json, OpenSfM's
    reconstruction.json or Polycam's keyframes; or that file or model itself."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How the scene is turned upright."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """What becomes the origin: the mean camera, or the point the cameras look at."""
    auto_scale_poses: bool = True
    """Whether the scene is scaled so that the cameras fit into [-1, 1]."""
    load_3D_points: bool = True
    """Whether the capture's sparse points are used."""
    downscale_factor: float | None = None
    """Divisor of the image size in ns-render dataset, which sets it. In training use the datamanager's image size."""


@dataclass
class FVGenDataParser(DataParser):
    """Reads a capture for fvgen-splat; see `FVGenDataParserConfig`."""

    config: FVGenDataParserConfig

    def __init__(self, config: FVGenDataParserConfig) -> None:
        super().__init__(config)
        self._files: CaptureFiles | None = None
        self.decodes = True
        """Whether photos are decoded to find damaged ones; otherwise whoever works on them does that."""

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        if self._files is None:
            self._files = read_capture(self.config.data, decode=self.decodes)
        files = self._files
        chosen = files.split(cast(Split, split))
        if split != "train" and not chosen:
            CONSOLE.log(NOTHING_HELD_OUT.format(split=split))
            chosen = files.split("train")
        poses, transform, scale = self._normalised_poses(files)
        frames = [files.frames[i] for i in chosen]
        metadata: dict[str, Any] = {
            "depth_filenames": [f.depth for f in frames] if any(f.depth for f in frames) else None,
            "depth_unit_scale_factor": files.depth_unit,
            "exif_ignored": {f.photo for f in frames if f.exif_ignored},
            "notes": list(files.notes),
        }
        if self.config.load_3D_points and files.points is not None:
            metadata |= _sparse_points(files.points, transform, scale)
        masks = [f.mask for f in frames]
        return DataparserOutputs(
            image_filenames=[f.photo for f in frames],
            cameras=to_nerfstudio(frames, poses[list(chosen)], _distortion(frames)),
            scene_box=SceneBox(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]])),
            mask_filenames=masks if any(masks) else None,  # type: ignore[arg-type]  # None: the whole photo counts
            dataparser_transform=transform,
            dataparser_scale=scale,
            metadata=metadata,
        )

    def _normalised_poses(self, files: CaptureFiles) -> tuple[torch.Tensor, torch.Tensor, float]:
        """[F, 3, 4] OpenGL poses of all frames, the [3, 4] transform and the scale that made them.

        Only training poses decide: a held-out photo may not steer anything. All in float64, because map coordinates
        in float32 are off by decimetres.
        """
        train = list(files.split("train"))
        poses = flip_axes(torch.from_numpy(np.stack([f.c2w for f in files.frames])))
        origin = poses[train, :3, 3].mean(dim=0) * (self.config.center_method != "none")
        centred = poses[train].clone()
        centred[:, :3, 3] -= origin
        _, found = auto_orient_and_center_poses(  # takes float32 alone
            centred.float(), method=self.config.orientation_method, center_method=self.config.center_method
        )
        u, _, vh = torch.linalg.svd(found[:, :3].double())
        rotation = u @ vh
        transform = torch.cat([rotation, (found[:, 3].double() - rotation @ origin)[:, None]], dim=1)
        moved = transform @ poses
        largest = float(moved[train][:, :3, 3].abs().max())
        scale = 1 / largest if self.config.auto_scale_poses and largest > 0 else 1.0
        moved[:, :3, 3] *= scale
        return moved[:, :3].float(), transform, scale


def _distortion(frames: Sequence[CaptureFrame]) -> torch.Tensor:
    """[F, 6] Nerfstudio's k1 k2 k3 k4 p1 p2 from OpenCV's k1 k2 p1 p2 k3."""
    k1, k2, p1, p2, k3 = torch.tensor([frame.distortion for frame in frames]).T
    return torch.stack([k1, k2, k3, torch.zeros_like(k1), p1, p2], dim=1)


def _sparse_points(points: PointCloud, transform: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    xyz = scale * (points.xyz @ transform[:, :3].T + transform[:, 3])
    return {"points3D_xyz": xyz.float(), "points3D_rgb": (255 * points.rgb).round().to(torch.uint8)}


fvgen_data = DataParserSpecification(
    config=FVGenDataParserConfig(),
    description="Sparse captures for fvgen-splat: Nerfstudio, COLMAP, Blender, OpenSfM or Polycam.",
)
