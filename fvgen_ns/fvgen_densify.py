"""The seam between the two packages: a capture's photos in, photos and generated views with dense points out.

What was made lives in a folder that is a Nerfstudio dataset itself (`fvgen.generation.views_folder`); the plugin keeps
it as a cache and ``scripts/generate_views.py`` writes it for any other splat tool.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE

from fvgen.geometry.points import merge, read_ply, voxel_thin
from fvgen.types import PointCloud
from fvgen_ns.camera_axes import concatenate
from fvgen_ns.capture_frames import capture_frames, check_outputs, scene_scale, similarity, sparse_points
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.generated_frames import GeneratedFrames, read_generated
from fvgen_ns.views_cache import cache_folder, views_key


def densify(
    outputs: DataparserOutputs, config: DensifyConfig, *, max_points: int, image_size: int, generate: bool
) -> DataparserOutputs:
    """The dataparser's outputs with dense points and generated views, photos first.

    Args:
        outputs: the training split.
        config: what to add.
        max_points: most points to start from.
        image_size: longest side that the splat trains on: points finer than its pixels are thinned.
        generate: whether missing views are made; otherwise the cache is read if it is there, and nothing is written.

    Raises:
        InputError: the capture cannot be used, or the cache cannot be written.
    """
    if not config.generates():
        config = replace(config, generator="none")
    frames = capture_frames(outputs)
    if generate:
        check_outputs(outputs)
    key = views_key(outputs, frames, config)
    folder = cache_folder(outputs, config, key)
    made = _made_views(outputs, config, folder, key, generate)
    views = made if config.views is None else read_generated(config.views, similarity(outputs))
    seeds = _seeds(outputs, frames, made, max_points, image_size)
    metadata: dict[str, Any] = {
        **outputs.metadata,
        "num_photos": len(frames),
        "scene_scale": scene_scale(frames, seeds),
        "is_photo": [True] * len(frames) + [False] * len(views.images),
        "trust_filenames": [None] * len(frames) + views.trust,
        "notes": [*outputs.metadata.get("notes", []), *made.notes],
    }
    metadata.pop("depth_filenames", None)  # done with; Nerfstudio wants one per image or none
    if len(seeds):
        metadata["points3D_xyz"] = seeds.xyz
        metadata["points3D_rgb"] = (255 * seeds.rgb).round().to(torch.uint8)
    return replace(
        outputs,
        image_filenames=[*outputs.image_filenames, *views.images],
        cameras=concatenate(outputs.cameras, views.cameras) if views.cameras is not None else outputs.cameras,
        metadata=metadata,
    )


def _made_views(
    outputs: DataparserOutputs, config: DensifyConfig, folder: Path, key: str, generate: bool
) -> GeneratedFrames:
    """Views and points of this configuration, from the cache or made now."""
    from fvgen.generation.views_folder import is_complete

    if config.geometry == "none":
        return GeneratedFrames.nothing()
    if is_complete(folder, key):
        CONSOLE.log(f"Reading dense points and generated views from {folder}")
    elif generate:
        from fvgen_ns.views_production import produce

        CONSOLE.log(f"Making dense points and generated views in {folder}")
        produce(outputs, config, folder, key)
    else:
        missing = f"No generated views in {folder}: showing the photos alone."
        CONSOLE.log(missing)
        return GeneratedFrames.nothing(missing)
    return read_generated(folder, similarity(outputs))


def _seeds(
    outputs: DataparserOutputs, frames: list, made: GeneratedFrames, max_points: int, image_size: int
) -> PointCloud:
    """Where Gaussians start: the capture's sparse points, and the dense cloud no finer than the training pixels."""
    sparse = sparse_points(outputs)
    parts = [] if sparse is None else [sparse]
    dense = merge([read_ply(path, torch.float64) for path in made.clouds])
    if len(dense):
        xyz = similarity(outputs).points_to_working(dense.xyz)
        dense = PointCloud(xyz, dense.rgb, dense.confidence)
        longest = max(max(frame.size) for frame in frames)
        focal = sum(frame.K[0, 0] for frame in frames) / len(frames) * min(1.0, image_size / longest)
        pixel = scene_scale(frames, dense) / focal
        room = max(max_points - sum(len(part) for part in parts), 0)
        parts.append(thin_to(dense, room, pixel))
    return merge(parts)


def thin_to(cloud: PointCloud, most: int, size: float) -> PointCloud:
    """The cloud on a grid of ``size``, coarser where that leaves more than ``most`` points."""
    thinned = voxel_thin(cloud, size)
    while len(thinned) > most > 0:
        size *= 1.1
        thinned = voxel_thin(cloud, size)
    return thinned
