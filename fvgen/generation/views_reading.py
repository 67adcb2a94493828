"""Reads the folder that `fvgen.generation.views_folder` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.files import intact, read_json
from fvgen.generation.views_folder import FORMAT, OPENGL_AXES
from fvgen.geometry.points import empty_cloud, read_ply
from fvgen.geometry.similarity import Similarity
from fvgen.types import Cameras, Cover, GeneratedViews, PointCloud

_AGAIN = "Generate the views again."


def load_views(folder: Path) -> GeneratedViews:
    """All frames of a finished folder in its order, but for held-out photos; in the frame that they were generated in.

    Photos come at the size of the generated views, resized if their files have another one, and cropped at the centre
    where they are of another shape. Colours and confidences have 8 bits, depth the folder's unit.

    Raises:
        InputError: the folder is not finished, of another format, or a file is not what was written.
    """
    folder = Path(folder)
    meta = _finished(folder)
    require(
        intact(folder, meta["fvgen_checksums"]),
        "views folder",
        "hold the files that were written",
        folder,
        f"Some are missing or damaged. {_AGAIN}",
    )
    similarity = _similarity(meta)
    unit = meta["depth_unit_scale_factor"] * similarity.scale
    entries = [entry for entry in meta["frames"] if not entry["fvgen"].get("held_out")]
    require(len(entries) > 0, "views folder", "hold at least one frame", folder, _AGAIN)
    size = _views_size(folder, entries)
    frames = [_read_frame(folder, entry, similarity, unit, size) for entry in entries]
    cameras = [frame.pop("cameras") for frame in frames]
    stacked = {name: torch.stack([frame[name] for frame in frames]) for name in frames[0]}
    first = cameras[0]
    return GeneratedViews(
        cameras=Cameras(
            torch.cat([c.c2w for c in cameras]), torch.cat([c.K for c in cameras]), first.height, first.width
        ),
        **stacked,
    )


def load_cloud(folder: Path) -> PointCloud:
    """The fused cloud of a finished folder, in the frame of `load_views`; empty where the photos gave none.

    Raises:
        InputError: the folder is not finished, of another format, or its cloud is damaged.
    """
    folder = Path(folder)
    similarity, path = _similarity(_finished(folder)), folder / "dense.ply"
    if not path.is_file():
        return empty_cloud()
    cloud = read_ply(path, torch.float64)
    return PointCloud(similarity.points_to_working(cloud.xyz), cloud.rgb, cloud.confidence)


def _finished(folder: Path) -> dict[str, Any]:
    """The description of a finished folder."""
    meta = read_json(folder / "transforms.json")
    if meta is None or "fvgen" not in meta:
        rule = "hold a finished transforms.json of generated views"
        raise InputError(complaint("views folder", rule, folder, _AGAIN))
    found = meta["fvgen"]["format"]
    require(found == FORMAT, "the views folder's format", f"be {FORMAT}", found, _AGAIN)
    return meta


def _similarity(meta: dict[str, Any]) -> Similarity:
    moved = meta["fvgen"]["working_from_capture"]
    return Similarity(np.array(moved["transform"]), float(moved["scale"]))


def _views_size(folder: Path, entries: list[dict[str, Any]]) -> tuple[int, int]:
    """(height, width) of the generated views, or of the first photo's depth where there are none."""
    entry = next((entry for entry in entries if not entry["fvgen"]["photo"]), entries[0])
    with Image.open(folder / entry["depth_file_path"]) as depth:
        return depth.height, depth.width


def _read_frame(
    folder: Path, entry: dict[str, Any], similarity: Similarity, unit: float, size: tuple[int, int]
) -> dict[str, Any]:
    """One frame's fields of `GeneratedViews` at (height, width), unbatched; its camera under ``cameras``."""
    height, width = size
    with Image.open(folder / entry["depth_file_path"]) as depth:
        steps = np.array(depth)
    if steps.shape != size:  # a photo of another shape, which has no depth
        steps = np.zeros(size, np.uint16)
    cover = Cover.of((entry["h"], entry["w"]), size)
    with Image.open(folder / entry["file_path"]) as image:
        rgb = np.asarray(image.convert("RGB"))
    if rgb.shape[:2] != (cover.height, cover.width):
        rgb = cv2.resize(rgb, (cover.width, cover.height), interpolation=cv2.INTER_AREA)
    rgb = rgb[cover.top : cover.top + height, cover.left : cover.left + width]
    K = torch.tensor([[entry["fl_x"], 0, entry["cx"]], [0, entry["fl_y"], entry["cy"]], [0, 0, 1]], dtype=torch.float64)
    c2w = torch.from_numpy(similarity.pose_to_working(np.array(entry["transform_matrix"]) @ OPENGL_AXES))
    camera = Cameras(c2w[None], K[None], entry["h"], entry["w"]).covering(height, width)
    known = torch.ones(1, height, width)
    generated = "confidence_file_path" in entry
    return {
        "cameras": camera.to(torch.float32),
        "rgb": torch.from_numpy(rgb.copy()).permute(2, 0, 1).float() / 255,
        "depth": (torch.from_numpy(steps.astype(np.float64)) * unit).float()[None],
        "pixel_confidence": _grey(folder / entry["confidence_file_path"]) if generated else known,
        "covered": _grey(folder / entry["covered_file_path"]) > 0.5 if generated else known > 0,
        "view_confidence": torch.tensor(float(entry["fvgen"].get("view_confidence", 1))),
        "is_photo": torch.tensor(bool(entry["fvgen"]["photo"])),
    }


def _grey(path: Path) -> Tensor:
    """[1, H, W] in [0, 1]."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image)).float()[None] / 255
