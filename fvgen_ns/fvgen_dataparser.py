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
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles, CaptureFrame, Split, require_training_photos
from fvgen.data.colmap import find_model
from fvgen.data.transforms_json import read_transforms
from fvgen_ns.frames import flip_axes, read_outputs, to_nerfstudio

SPLITS = ("train", "val", "test")
NOTHING_HELD_OUT = "[yellow]The capture holds no photos back for {split}: showing the training photos instead."


@dataclass
class FVGenDataParserConfig(DataParserConfig):
    """Sparse captures as Nerfstudio, COLMAP or Blender write them."""

    _target: type = field(default_factory=lambda: FVGenDataParser)
    data: Path = Path()
    """Capture: folder with transforms.json, with a COLMAP model, or with Blender's transforms_train.json."""
    orientation_method: Literal["pca", "up", "vertical", "none"] = "up"
    """How the scene is turned upright."""
    center_method: Literal["poses", "focus", "none"] = "poses"
    """What becomes the origin: the mean camera, or the point the cameras look at."""
    auto_scale_poses: bool = True
    """Whether the scene is scaled so that the cameras fit into [-1, 1]."""
    load_3D_points: bool = True
    """Whether the capture's sparse points are used."""
    downscale_factor: float | None = None
    """Taken for the sake of ns-render dataset, which sets it; image size is the datamanager's --image-size."""


@dataclass
class FVGenDataParser(DataParser):
    """Reads a capture for fvgen-splat; see `FVGenDataParserConfig`."""

    config: FVGenDataParserConfig

    def __init__(self, config: FVGenDataParserConfig) -> None:
        super().__init__(config)
        self._files: CaptureFiles | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        folder = self.config.data
        require(folder.exists(), "--data", "be an existing folder", folder, "Check the path.")
        if folder.suffix == ".json" or (folder / "transforms.json").is_file():
            return self._from_transforms(cast(Split, split))
        colmap = find_model(folder)
        if colmap is not None:
            return self._from_colmap(folder, colmap.relative_to(folder), split)
        if (folder / "transforms_train.json").is_file():
            return self._from_blender(folder, split)
        raise InputError(
            complaint(
                "--data",
                "be a capture (transforms.json, a COLMAP model or transforms_train.json)",
                folder,
                "Make one with: ns-process-data images --data PHOTOS --output-dir CAPTURE",
            )
        )

    def _from_blender(self, folder: Path, split: str) -> DataparserOutputs:
        split = _stand_in(split, {name for name in SPLITS if (folder / f"transforms_{name}.json").is_file()})
        return read_outputs(BlenderDataParserConfig(data=folder).setup(), split)

    def _from_colmap(self, folder: Path, model: Path, split: str) -> DataparserOutputs:
        has_points = _has_points(folder / model)
        config = ColmapDataParserConfig(
            data=folder,
            colmap_path=model,
            eval_mode="all",
            downscale_factor=1,
            orientation_method=self.config.orientation_method,
            center_method=self.config.center_method,
            auto_scale_poses=self.config.auto_scale_poses,
            load_3D_points=self.config.load_3D_points and has_points,
        )
        split = _stand_in(split, {name for name in SPLITS if (folder / f"{name}_list.txt").is_file()})
        outputs = read_outputs(config.setup(), split)
        if not has_points:
            outputs.metadata["notes"] = ["The COLMAP model has no sparse points: going on without them."]
        return outputs

    def _from_transforms(self, split: Split) -> DataparserOutputs:
        if self._files is None:
            self._files = read_transforms(self.config.data)
        files = self._files
        chosen = files.split(split)
        if split != "train" and not chosen:
            CONSOLE.log(NOTHING_HELD_OUT.format(split=split))
            chosen = files.split("train")
        poses, transform, scale = self._normalised_poses(files)
        frames = [files.frames[i] for i in chosen]
        metadata: dict[str, Any] = {
            "depth_filenames": [f.depth for f in frames] if any(f.depth for f in frames) else None,
            "depth_unit_scale_factor": files.depth_unit,
            "notes": list(files.warnings),
        }
        if self.config.load_3D_points and files.sparse_ply is not None:
            metadata |= _sparse_points(files.sparse_ply, transform, scale)
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

        Raises:
            InputError: no photo trains.
        """
        train = list(files.split("train"))
        require_training_photos(len(train))
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


def _stand_in(split: str, named: set[str]) -> str:
    """The split to show: ``val`` and ``test`` stand in for each other; where neither is named, the training photos."""
    candidates = (split, "test" if split == "val" else "val")
    found = next((name for name in candidates if name in named), "train")
    if split != "train" and found == "train":
        CONSOLE.log(NOTHING_HELD_OUT.format(split=split))
    return "train" if split == "train" else found


def _has_points(model: Path) -> bool:
    binary, text = model / "points3D.bin", model / "points3D.txt"
    if binary.is_file():
        with binary.open("rb") as file:
            return int.from_bytes(file.read(8), "little") > 0
    if not text.is_file():
        return False
    with text.open(encoding="utf-8", errors="replace") as file:
        return any(line.strip() and not line.startswith("#") for line in file)


def _distortion(frames: Sequence[CaptureFrame]) -> torch.Tensor:
    """[F, 6] Nerfstudio's k1 k2 k3 k4 p1 p2 from OpenCV's k1 k2 p1 p2 k3."""
    k1, k2, p1, p2, k3 = torch.tensor([frame.distortion for frame in frames]).T
    return torch.stack([k1, k2, k3, torch.zeros_like(k1), p1, p2], dim=1)


def _sparse_points(path: Path, transform: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
    from fvgen.geometry.points import read_ply

    cloud = read_ply(path, torch.float64)
    xyz = scale * (cloud.xyz @ transform[:, :3].T + transform[:, 3])
    return {"points3D_xyz": xyz.float(), "points3D_rgb": (255 * cloud.rgb).round().to(torch.uint8)}


fvgen_data = DataParserSpecification(
    config=FVGenDataParserConfig(), description="Sparse captures for fvgen-splat: Nerfstudio, COLMAP or Blender"
)
