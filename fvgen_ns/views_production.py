"""Makes what `fvgen_ns.fvgen_densify` reads: geometry, path, generated views and seeds in holes, into one folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE

import fvgen
from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.photos import read_photo
from fvgen.data.working_size import make_capture
from fvgen.devices import default_device, free_memory
from fvgen.generation.hole_seeding import decide_seeding, hole_points
from fvgen.generation.model_folder import NEEDS_MODEL
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.generation.views_folder import DEPTH_STEPS, ViewsWriter
from fvgen.geometry.points import write_ply
from fvgen.geometry.provider import GEOMETRY_PROVIDERS
from fvgen.geometry.trajectory import PATH_STYLES, clips_of
from fvgen.types import CameraPath, Capture, GeneratedViews, Progress, SceneGeometry, no_progress
from fvgen_ns.capture_frames import capture_frames, depth_unit, scene_scale, similarity, sparse_points
from fvgen_ns.densify_config import DensifyConfig
from fvgen_ns.gaussian_sizes import neighbour_distance
from fvgen_ns.progress import ProgressBars

FEWEST_POINTS = 100
"""A cloud of fewer points shows that the photos do not overlap."""
TRIAL_FRAMES = 7
"""Frames of a clip when seeds in holes are tried on a left-out photo."""


def check_settings(config: DensifyConfig, frames: list[CaptureFrame]) -> None:
    """Refuse settings that could only fail after the geometry is made.

    Raises:
        InputError: a number out of its range, or measured depth asked for where there is none.
    """
    clip = config.frames_per_clip
    require(clip is None or clip >= 2, "--frames-per-clip", "be at least 2, both photos counted", clip, "Ask for more.")
    require(config.working_size >= 16, "--working-size", "be at least 16 pixels", config.working_size, "Ask for more.")
    require(
        config.confidence_seeds >= 0, "--confidence-seeds", "not be negative", config.confidence_seeds, "Ask for 0."
    )
    require(
        config.geometry != "capture-depth" or any(frame.depth for frame in frames),
        "--geometry capture-depth",
        "have depth in the capture",
        "no depth_file_path in any frame",
        "Choose plane-sweep or auto.",
    )


def produce(outputs: DataparserOutputs, config: DensifyConfig, folder: Path, key: str) -> None:
    """Reconstruct, generate, decide on seeds in holes, and leave a complete folder.

    A run that was killed goes on: frames that the folder holds already are not generated again.

    Raises:
        InputError: the generator's weights are not there, or the folder cannot be written.
    """
    config.find_weights()
    frames, points = capture_frames(outputs), sparse_points(outputs)
    with ProgressBars() as progress:
        capture = make_capture(
            frames, config.working_size, sparse=points, depth_unit=depth_unit(outputs), progress=progress
        ).to(default_device())
        geometry = GEOMETRY_PROVIDERS[config.geometry]().reconstruct(capture, progress)
        writer = _writer(outputs, config, folder, key, geometry)
        for i, frame in enumerate(frames):
            if not writer.has(i):
                writer.put_photo(
                    i,
                    frame.photo,
                    frame.c2w,
                    frame.K,
                    frame.size,
                    frame.distortion,
                    geometry.depths[i],
                    decode=read_photo,
                )
        count, notes = len(frames), []
        if len(geometry.points) < FEWEST_POINTS:
            notes.append("The photos do not overlap enough for depth or generated views: training on photos alone.")
        elif config.generator != "none":
            path = PATH_STYLES[config.path](capture.cameras, config.frames_per_clip)
            count += _generate(capture, geometry, path, config, writer, len(frames), progress)
            free_memory()  # a network's weights leave before the splat trains
        if not notes and config.seed_holes != "never":
            notes += _seed_holes(capture, geometry, frames, config, folder, outputs, progress)
        for note in notes:
            CONSOLE.log(f"[yellow]{note}")
        writer.finish(count, geometry.points, notes)


def _writer(
    outputs: DataparserOutputs, config: DensifyConfig, folder: Path, key: str, geometry: SceneGeometry
) -> ViewsWriter:
    farthest = float(geometry.depths.max()) / outputs.dataparser_scale
    provenance: dict[str, Any] = {
        "version": fvgen.__version__,
        "generator": config.generator,
        "seed": config.seed,
        "settings": json.loads(json.dumps(dataclasses.asdict(config), default=str)),
    }
    # generated views may look past the farthest point; four times that still has 14 bits left for the scene
    depth_unit = 4 * farthest / DEPTH_STEPS if farthest > 0 else 1e-3
    return ViewsWriter(folder, key, similarity(outputs), depth_unit, provenance)


def _generate(
    capture: Capture,
    geometry: SceneGeometry,
    path: CameraPath,
    config: DensifyConfig,
    writer: ViewsWriter,
    first: int,
    progress: Progress,
) -> int:
    """Generate clip by clip and store each frame; how many frames the path has beside the photos."""
    has_model = config.generator in NEEDS_MODEL
    settings = {name: getattr(config, name) for name in ("model", "low_memory", "confidence_seeds") if has_model}
    generator = VIEW_GENERATORS[config.generator](**settings)
    within_clip = progress if has_model else no_progress  # a network's clip may take minutes
    places = torch.cumsum(path.photo < 0, dim=0) - 1 + first
    clips = clips_of(path)
    done: set[int] = set()
    for number, clip in enumerate(clips):
        new = [i for i in clip.tolist() if path.photo[i] < 0 and i not in done]
        done.update(new)
        missing = [i for i in new if not writer.has(int(places[i]))]
        if missing:
            part = CameraPath(path.cameras[clip], path.ends[clip], path.position[clip], path.photo[clip])
            views = generator.generate(capture, geometry, part, config.seed, within_clip)
            for at, i in enumerate(clip.tolist()):
                if i in missing:
                    info = {
                        "generator": config.generator, "seed": config.seed, "key": writer.key,
                        "ends": path.ends[i].tolist(), "position": float(path.position[i]),
                        "view_confidence": float(views.view_confidence[at]),
                    }  # fmt: skip
                    _store(writer, int(places[i]), views, at, info)
        progress(number + 1, len(clips), f"generating views ({config.generator}), clips")
    return len(done)


def _store(writer: ViewsWriter, place: int, views: GeneratedViews, at: int, info: dict[str, Any]) -> None:
    confidence = views.pixel_confidence[at, 0] * views.view_confidence[at]
    writer.put_view(place, views.cameras[at], views.rgb[at], views.depth[at, 0], confidence, views.covered[at, 0], info)


def _seed_holes(
    capture: Capture,
    geometry: SceneGeometry,
    frames: list[CaptureFrame],
    config: DensifyConfig,
    folder: Path,
    outputs: DataparserOutputs,
    progress: Progress,
) -> list[str]:
    """Write ``hole_seeds.ply`` when seeds in the holes are wanted or shown to help; notes on what was decided."""
    target = folder / "hole_seeds.ply"
    target.unlink(missing_ok=True)
    generator = VIEW_GENERATORS["warp"]()

    def views_of(part: Capture, known: SceneGeometry) -> GeneratedViews:
        return generator.generate(part, known, PATH_STYLES["between"](part.cameras, TRIAL_FRAMES), config.seed)

    note = "Seeds in holes: as asked for."
    if config.seed_holes == "auto":
        decision = decide_seeding(
            capture,
            geometry,
            views_of,
            neighbour_distance,
            scene_scale=scene_scale(frames, geometry.points),
            seed=config.seed,
            progress=progress,
        )
        gains = ", ".join(f"{gain:+.2f}" for gain in decision.gains_db) or "none could be tried"
        note = f"Seeds in holes: {'yes' if decision.seed else 'no'} (dB on left-out photos: {gains})."
        if not decision.seed:
            return [note]
    seeds = hole_points(views_of(capture, geometry))
    if len(seeds):
        moved = similarity(outputs).points_to_capture(seeds.xyz)
        write_ply(target, dataclasses.replace(seeds, xyz=moved).to("cpu"))
    return [note]
