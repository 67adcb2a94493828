"""Makes what `fvgen_ns.densify` reads: geometry, path, generated views and seeds in holes, into one folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from nerfstudio.utils.rich_utils import CONSOLE

import fvgen
from fvgen.data.capture import CaptureFrame
from fvgen.data.masks import frame_mask
from fvgen.data.photos import is_portable, read_photo
from fvgen.devices import default_device, free_memory
from fvgen.generation.fixed_frames import thinned
from fvgen.generation.hole_points import hole_points
from fvgen.generation.stored_photo import StoredPhoto
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.generation.views_folder import ViewsWriter, depth_unit_of
from fvgen.geometry.background import background_points, room_of
from fvgen.geometry.completion import LearnedDepth, completed_by
from fvgen.geometry.points import empty_cloud, write_ply
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.geometry.trajectory import PATH_STYLES, clips_of
from fvgen.models.depth_anything import DepthAnything
from fvgen.models.find import NEEDS_MODEL
from fvgen.pictures import png
from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, Progress, SceneGeometry, no_progress
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.parts import BACKGROUND, DENSE, SEEDS, VIEWS, Choice, choose_parts, views_for_seeds
from fvgen_ns.progress_bars import progress_bars
from fvgen_ns.run_seconds import timed

FEWEST_POINTS = 100
"""A cloud of fewer points shows that the photos do not overlap."""
_COST_PHOTOS = 4
"""So many photos show what a tiny codec costs."""
DEPTH_NETWORKS: dict[str, Callable[[Any], LearnedDepth]] = {"depth-anything": DepthAnything}
"""Choices of `DensifyConfig.geometry_completion`, made from their folders."""
NO_OVERLAP = "The photos do not overlap enough for depth or generated views: training on photos alone."


def produce(
    split: CaptureSplit,
    capture: Capture,
    config: DensifyConfig,
    folder: Path,
    key: str,
    held_out: Sequence[CaptureFrame] = (),
    capture_notes: Sequence[str] = (),
    *,
    if_full: str,
) -> None:
    """Reconstruct, choose what is worth adding, generate, and leave a complete folder.

    A run that was killed goes on: frames that the folder holds already are not generated again.

    Args:
        split: the training photos.
        capture: the same at the working size.
        config: what to make; the generator's weights have been found.
        folder: where; made when missing.
        key: of these photos and settings (`fvgen_ns.densify.views_key`).
        held_out: photos to keep beside them, for comparison alone; in the dataparser's frame.
        capture_notes: on the capture, to keep with the folder's own.
        if_full: what to do about a disk that is full; names the option for the folder.

    Raises:
        InputError: the folder cannot be written.
    """
    with progress_bars() as progress:
        capture = capture.to(default_device())
        with timed("geometry"):
            geometry = GEOMETRY_PROVIDERS[config.geometry]().reconstruct(capture, progress)
            completion_notes: list[str] = []
            if config.completes():
                make = DEPTH_NETWORKS[config.geometry_completion]
                geometry, completion_notes = completed_by(make(config.depth_model), capture, geometry, progress)
                free_memory()  # no name holds the network: its weights leave
            walls = room_of(capture, geometry) if config.background else None
        if len(geometry.points) < FEWEST_POINTS:
            choice = Choice(frozenset(), {}, [NO_OVERLAP])
        else:
            scale = split.scene_scale(geometry.points)
            choice = choose_parts(config, capture, geometry, walls=walls, scene_scale=scale, progress=progress)
        writer = _writer(split, config, folder, key, geometry, choice, if_full)
        for i, frame in enumerate(split.frames):
            if not writer.has(i):
                writer.put_photo(i, stored_photo(frame), geometry.depths[i])
        background = background_points(capture, geometry, walls) if BACKGROUND in choice.parts else None
        count = len(split.frames)
        if VIEWS in choice.parts:
            with timed("generation"):
                whole = dataclasses.replace(geometry, background=background)
                count += _generate(capture, whole, config, writer, count, progress)
            free_memory()  # a network's weights leave before the splat trains
        _seed_holes(split, capture, geometry, config, folder, wanted=SEEDS in choice.parts)
        for note in (notes := [*completion_notes, *choice.notes]):
            CONSOLE.log(note, style="yellow", markup=False)
        for i, frame in enumerate(held_out, start=count):
            if not writer.has(i):
                writer.put_photo(i, stored_photo(frame), depth=None, held_out=True)
        points = geometry.points if DENSE in choice.parts else empty_cloud()
        writer.finish(count + len(held_out), points, [*capture_notes, *notes], background)


def stored_photo(frame: CaptureFrame) -> StoredPhoto:
    """A capture's photo as the folder keeps it."""
    kept = is_portable(frame.photo, frame.size)
    return StoredPhoto(
        name=frame.photo.name,
        content=frame.photo if kept else png(read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored)),
        c2w=frame.c2w,
        K=frame.K,
        size=frame.size,
        distortion=frame.distortion,
        mask=None if frame.mask is None else frame_mask(frame, frame.size),
    )


def _writer(
    split: CaptureSplit,
    config: DensifyConfig,
    folder: Path,
    key: str,
    geometry: SceneGeometry,
    choice: Choice,
    if_full: str,
) -> ViewsWriter:
    provenance: dict[str, Any] = {
        "version": fvgen.__version__,
        "generator": config.generator,
        "seed": config.seed,
        "trials": dict(choice.trials),
        "settings": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
    }
    unit = depth_unit_of(geometry.depths, split.similarity.scale)
    return ViewsWriter(folder, key, split.similarity, unit, provenance, if_full=if_full)


def generator_of(config: DensifyConfig) -> Any:
    """The `fvgen.generation.view_generator.ViewGenerator` that a configuration names."""
    settings: dict[str, Any] = {}
    if config.generator in NEEDS_MODEL:
        settings = {name: getattr(config, name) for name in ("model", "low_memory", "tiny_codec", "confidence_seeds")}
        settings["steps"] = config.sampling_steps
    return VIEW_GENERATORS[config.generator](**settings)


def _generate(
    capture: Capture,
    geometry: SceneGeometry,
    config: DensifyConfig,
    writer: ViewsWriter,
    first: int,
    progress: Progress,
) -> int:
    """Generate clip by clip and store each frame; how many frames are stored beside the photos.

    A network that must have clips of one length draws all of their frames, of which as many are stored as were asked
    for.
    """
    generator = generator_of(config)
    if config.tiny_codec is not None:
        CONSOLE.log(str(generator.codec_cost(capture.photos[:_COST_PHOTOS])))
    within_clip = progress if config.generator in NEEDS_MODEL else no_progress  # a network's clip may take minutes
    path, drawn = planned(capture.cameras, config, generator)
    places = {i: first + number for number, i in enumerate(drawn)}
    clips = clips_of(path)
    for number, clip in enumerate(clips):
        missing = {i for i in clip.tolist() if i in places and not writer.has(places[i])}
        if missing:
            views = generator.generate(capture, geometry, path.part(clip), config.seed, within_clip)
            for at, i in enumerate(clip.tolist()):
                if i in missing:
                    store_view(writer, places[i], views[at], config, path, i)
        progress(number + 1, len(clips), f"generating views ({config.generator}), clips")
    return len(drawn)


def planned(cameras: Cameras, config: DensifyConfig, generator: Any) -> tuple[CameraPath, list[int]]:
    """The path between the photos, and which of its frames are stored.

    Args:
        cameras: of the photos.
        config: which path, and how many frames.
        generator: of that configuration; it may draw clips of one length alone.
    """
    wanted = PATH_STYLES[config.path](cameras, config.frames_per_clip)
    length = generator.fixed_frames if config.generator in NEEDS_MODEL else None
    path = wanted if length is None else PATH_STYLES[config.path](cameras, length)
    stored = torch.cat(thinned(path, wanted)).unique()
    return path, stored[path.photo[stored] < 0].tolist()


def store_view(
    writer: ViewsWriter, place: int, view: GeneratedViews, config: DensifyConfig, path: CameraPath, i: int, **more: Any
) -> None:
    """Store one view with its provenance.

    Args:
        writer: of the folder.
        place: in the folder.
        view: one frame.
        config: how it was generated.
        path: along which.
        i: frame of the path.
        more: to know of this view.
    """
    info = {
        "generator": config.generator,
        "seed": config.seed,
        "key": writer.key,
        "ends": path.ends[i].tolist(),
        "position": float(path.position[i]),
        "view_confidence": float(view.view_confidence[0]),
        **more,
    }
    confidence = view.pixel_confidence[0, 0] * view.view_confidence[0]
    writer.put_view(place, view.cameras, view.rgb[0], view.depth[0, 0], confidence, view.covered[0, 0], info)


def _seed_holes(
    split: CaptureSplit, capture: Capture, geometry: SceneGeometry, config: DensifyConfig, folder: Path, *, wanted: bool
) -> None:
    """Write ``hole_seeds.ply``, or nothing in its place."""
    target = folder / "hole_seeds.ply"
    target.unlink(missing_ok=True)
    seeds = hole_points(views_for_seeds(config, capture, geometry)) if wanted else empty_cloud()
    if len(seeds):
        moved = split.similarity.points_to_capture(seeds.xyz)
        write_ply(target, dataclasses.replace(seeds, xyz=moved).to("cpu"))
