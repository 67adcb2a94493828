"""What is added to a capture's photos before a splat trains: dense points and generated views.

`fvgen_ns.produce` makes them, in a folder that is a Nerfstudio dataset itself (`fvgen.generation.views_folder`). The
plugin keeps that folder in a cache; ``fvgen views`` writes it for any other splat tool.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE

import fvgen
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.frame_checks import check_frame
from fvgen.data.transforms_json import read_transforms
from fvgen.files import require_writable
from fvgen.generation.views_folder import BACKGROUND, GUESSES, is_complete
from fvgen.geometry.points import merge, read_ply, voxel_thin
from fvgen.geometry.similarity import Similarity
from fvgen.models.find import NEEDS_MODEL, locate_model
from fvgen.models.folder import model_fingerprint
from fvgen.types import Capture, PointCloud
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.frames import concatenate, flip_axes, to_nerfstudio
from fvgen_ns.views_cache import IF_FULL, cache_folder, claimed_folder, complete_folder

_NOT_IN_KEY = {"cache_dir", "views", "low_memory", "model", "tiny_codec", "repair_steps", "depth_model"}
"""Settings that do not change what is made; of networks their content counts, not their paths."""


def densify(
    split: CaptureSplit, config: DensifyConfig, *, max_points: int, image_size: int, capture: Capture | None
) -> CaptureSplit:
    """The split with dense points and generated views, photos first.

    Args:
        split: the training photos.
        config: what to add.
        max_points: most points to start from.
        image_size: longest side that the splat trains on: points finer than its pixels are thinned.
        capture: the photos at the working size, from which missing views are made; with None the cache is read if it
            is there, and nothing is written.

    Raises:
        InputError: the cache cannot be written.
    """
    config = config.effective()
    made = _made_views(split, config, capture)
    views = made if config.views is None else read_generated(config.views, split.similarity)
    seeds = _seeds(split, made, max_points, image_size)
    background, guesses = (_points(split, files) for files in (made.background, made.guesses))
    outputs, photos = split.outputs, len(split.frames)
    metadata: dict[str, Any] = {
        **outputs.metadata,
        "num_photos": photos,
        "scene_scale": split.scene_scale(seeds),
        "num_background": len(background) + len(guesses),
        "num_guesses": len(guesses),
        "is_photo": [True] * photos + [False] * len(views.frames),
        "confidence_filenames": [None] * photos + views.confidences,
        "notes": [*outputs.metadata.get("notes", []), *made.notes],
    }
    metadata.pop("depth_filenames", None)  # done with; Nerfstudio wants one per image or none
    start = merge([seeds, background, guesses])
    if len(start):
        metadata |= {"points3D_xyz": start.xyz, "points3D_rgb": (255 * start.rgb).round().to(torch.uint8)}
    else:  # Nerfstudio takes them for a cloud even where there are none
        metadata.pop("points3D_xyz", None)
    outputs = replace(
        outputs,
        image_filenames=[*outputs.image_filenames, *(frame.photo for frame in views.frames)],
        cameras=concatenate(outputs.cameras, views.cameras) if views.cameras is not None else outputs.cameras,
        metadata=metadata,
    )
    return replace(split, outputs=outputs, frames=(*split.frames, *views.frames))


def views_key(split: CaptureSplit, config: DensifyConfig, held_out: Sequence[CaptureFrame] = ()) -> str:
    """Hash of the photos' bytes, cameras, sparse points and settings: other views for any other of them.

    The dataparser's transform counts too: views are stored in the capture's frame, and would come back elsewhere.

    Args:
        split: the training photos.
        config: what is made.
        held_out: photos that are written beside them.
    """
    outputs = split.outputs
    digest = hashlib.sha256(fvgen.__version__.encode())
    unit = outputs.metadata.get("depth_unit_scale_factor", DEPTH_UNIT)
    digest.update(outputs.dataparser_transform.double().numpy().round(6).tobytes())
    digest.update(f"{outputs.dataparser_scale:.6g} {unit:.6g}".encode())
    for frame in (*split.frames, *held_out):
        digest.update(frame.photo.read_bytes())
        for path in (frame.depth, frame.mask):
            digest.update(b"-" if path is None else path.read_bytes())
        digest.update(frame.c2w.round(6).tobytes() + frame.K.round(4).tobytes())
        digest.update(repr((frame.distortion, frame.exif_ignored)).encode())
    points = outputs.metadata.get("points3D_xyz")
    if points is not None:
        digest.update(points.numpy().tobytes())
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k not in _NOT_IN_KEY}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    if config.generator in NEEDS_MODEL:
        model = locate_model(config.generator, config.model)
        for folder in (model, *([] if config.tiny_codec is None else [config.tiny_codec])):
            digest.update(b"-" if folder is None else model_fingerprint(folder).encode())
    if config.completes():
        digest.update(b"-" if config.depth_model is None else model_fingerprint(config.depth_model).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class GeneratedFrames:
    """Views, and the point clouds that came with them."""

    frames: list[CaptureFrame] = field(default_factory=list)
    """In the dataparser's frame."""
    cameras: Cameras | None = None
    """The same as Nerfstudio has them; None when there are no views."""
    confidences: list[tuple[Path, Path] | None] = field(default_factory=list)
    """Per view its confidence map and coverage mask; None counts it as a photo."""
    clouds: list[Path] = field(default_factory=list)
    """PLY files in the capture's frame."""
    background: list[Path] = field(default_factory=list)
    """PLY files of points for what those leave empty, in the capture's frame."""
    guesses: list[Path] = field(default_factory=list)
    """The same, of guessed depth."""
    notes: list[str] = field(default_factory=list)


def read_generated(folder: Path, similarity: Similarity) -> GeneratedFrames:
    """The generated views of a folder; all images of a dataset that does not say which of them are photos.

    Args:
        folder: Nerfstudio dataset in the capture's frame.
        similarity: from the capture's frame to the dataparser's.

    Raises:
        InputError: the folder cannot be read as a dataset, or one of its frames cannot be used.
    """
    unusable = CaptureNotes()
    files = read_transforms(folder / "transforms.json", unusable)
    for error in unusable.left_out.values():
        raise error
    for frame in files.frames:
        check_frame(frame)
    meta = json.loads((files.folder / "transforms.json").read_text())
    entries = {entry["file_path"]: entry for entry in meta["frames"]}
    frames = [f for f in files.frames if not entries[f.name].get("fvgen", {}).get("photo", False)]
    is_ours = "fvgen" in meta
    made = GeneratedFrames()
    if is_ours:
        clouds = [files.folder / name for name in ("dense.ply", "hole_seeds.ply") if (files.folder / name).is_file()]
        background, guesses = ([p for p in [files.folder / name] if p.is_file()] for name in (BACKGROUND, GUESSES))
        made = GeneratedFrames(clouds=clouds, background=background, guesses=guesses, notes=meta["fvgen"]["notes"])
    if not frames:
        return made
    moved = [replace(f, c2w=similarity.pose_to_working(f.c2w), depth=None) for f in frames]
    poses = flip_axes(torch.from_numpy(np.stack([f.c2w for f in moved])))
    return replace(
        made,
        frames=moved,
        cameras=to_nerfstudio(moved, poses[:, :3]),
        confidences=[_confidence(files.folder, entries[f.name]) for f in frames],
    )


def _confidence(folder: Path, entry: dict) -> tuple[Path, Path] | None:
    if "confidence_file_path" not in entry:
        return None
    return folder / entry["confidence_file_path"], folder / entry["covered_file_path"]


def makes_views(split: CaptureSplit, config: DensifyConfig) -> bool:
    """Whether `densify` has anything to make that the cache does not hold.

    Raises:
        InputError: it has, and the cache cannot be written.
    """
    if config.geometry == "none":
        return False
    folder, key = _place(split, config.effective())
    if complete_folder(folder, key) is not None:
        return False
    require_writable("views folder", folder, IF_FULL)
    return True


def _place(split: CaptureSplit, config: DensifyConfig) -> tuple[Path, str]:
    """Folder and key of what is made."""
    key = views_key(split, config)
    return cache_folder(config.cache_dir, split.frames[0], key), key


def _made_views(split: CaptureSplit, config: DensifyConfig, capture: Capture | None) -> GeneratedFrames:
    """Views and points of this configuration, from the cache or made now."""
    if config.geometry == "none":
        return GeneratedFrames()
    folder, key = _place(split, config)
    made = complete_folder(folder, key)
    if made is not None:
        CONSOLE.log(f"Reading dense points and generated views from {made}", markup=False)
    elif capture is not None:
        made = _make(split, config, capture, folder, key)
    else:
        missing = f"No generated views in {folder}: showing the photos alone."
        CONSOLE.log(missing, markup=False)
        return GeneratedFrames(notes=[missing])
    return read_generated(made, split.similarity)


def _make(split: CaptureSplit, config: DensifyConfig, capture: Capture, folder: Path, key: str) -> Path:
    """Make what was not found, in ``folder`` or beside it; where it is."""
    from fvgen_ns.produce import produce

    config.find_weights()
    with claimed_folder(folder) as place:
        if place != folder:
            CONSOLE.log("Another run is making the same views: this one makes its own.")
        if not is_complete(place, key):  # finished in the meantime
            CONSOLE.log(f"Making dense points and generated views in {place}", markup=False)
            with torch.random.fork_rng(devices=[]):  # a run trains the same whether its views are made or read back
                produce(split, capture, config, place, key, if_full=IF_FULL)
        return place


def _seeds(split: CaptureSplit, made: GeneratedFrames, max_points: int, image_size: int) -> PointCloud:
    """Where Gaussians start: the capture's sparse points, and the dense cloud no finer than the training pixels."""
    parts = [] if split.sparse is None else [split.sparse]
    dense = _points(split, made.clouds)
    if len(dense):
        longest = max(max(frame.size) for frame in split.frames)
        focal = sum(frame.K[0, 0] for frame in split.frames) / len(split.frames) * min(1.0, image_size / longest)
        pixel = split.scene_scale(dense) / focal
        room = max(max_points - sum(len(part) for part in parts), 0)
        parts.append(thin_to(dense, room, pixel))
    return merge(parts)


def _points(split: CaptureSplit, files: Sequence[Path]) -> PointCloud:
    """The points of PLY files, in the dataparser's frame."""
    points = merge([read_ply(path, torch.float64) for path in files])
    return replace(points, xyz=split.similarity.points_to_working(points.xyz))


def thin_to(cloud: PointCloud, most: int, size: float) -> PointCloud:
    """The cloud on a grid of ``size``, coarser where that leaves more than ``most`` points."""
    thinned = voxel_thin(cloud, size)
    while len(thinned) > most > 0:
        size *= 1.1
        thinned = voxel_thin(cloud, size)
    return thinned
