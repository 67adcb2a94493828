"""Training clips as WebDataset shards, from posed captures or from procedural scenes: ``fvgen clips``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fvgen.checks import InputError, complaint, require
from fvgen.command import run
from fvgen.files import disk_errors

if TYPE_CHECKING:
    from fvgen.data.clip_encodings import ClipEncoder
    from fvgen.data.precompute import Scene, Summary

_SEEDS = 1_000_000
"""Clips that one seed may ask for before it meets the next one's."""

DESCRIPTION = """Prepare training clips as WebDataset shards, from procedural scenes or from posed captures.

A run that was broken off goes on when the same command is started again. Several processes or machines share the work
with --shard 0/4, 1/4, ..., or when started as `accelerate launch -m fvgen_ns.cli clips` (on CPUs with --config_file
scripts/accelerate/ddp_cpu.yaml). Two cores make about 1.3 procedural clips of 8 frames at 256x160 a second."""


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Options that both kinds of clips have."""

    output: Path
    """Folder to write the shards to."""
    frames: int = 8
    """Frames of a clip, with the photos at its ends."""
    height: int = 160
    """Height of landscape clips, in pixels."""
    width: int = 256
    """Width of landscape clips, in pixels."""
    encoding: Literal["pixels", "latents"] = "pixels"
    """Form in which clips are stored. Pixels are encoded on reading, as residuals on the warp; latents are made now by
    --model."""
    model: Path | None = None
    """Pipeline folder whose codec and towers make the latents."""
    shard: str | None = None
    """Part of the scenes to take, as i/n: the i-th of n, counted from 0. When not given, `accelerate launch` decides,
    and without it all scenes are taken."""
    seed: int = 0
    """Random seed: scenes, cameras, choice of frames."""


@dataclass(frozen=True, kw_only=True)
class ProceduralClips(ClipOptions):
    """Textured scenes with exact depth, spoilt as stereo spoils it unless --geometry says otherwise."""

    clips: int = 1500
    """Number of clips."""
    orientation: Literal["landscape", "portrait", "both"] = "both"
    """Orientation of the clips. Portrait clips are WIDTH high and HEIGHT wide; both take turns, shard by shard."""
    plane_sweep: float = 0.15
    """Share of the clips whose cloud comes from real plane sweep."""
    geometry: Literal["defects", "plane-sweep", "exact"] = "defects"
    """Source of the other clips' clouds: exact depth spoilt as stereo spoils it, plane sweep, or exact depth."""
    block: int = 20
    """Clips of a shard."""


@dataclass(frozen=True, kw_only=True)
class CaptureClips(ClipOptions):
    """Posed captures: folders with a transforms.json or a COLMAP model, at any depth below --captures."""

    captures: Path
    """Folder of captures."""
    clips_per_scene: int = 8
    """Clips of a capture, of random start and stride below 5."""
    geometry: str = "auto"
    """Name of the geometry provider: auto, plane-sweep, capture-depth, or dust3r, which must be installed. The choice
    dust3r-raw is DUSt3R on the clip's two photos without cut or filters, as ViewCrafter's own training saw it."""
    least_coverage: float | None = None
    """Share of the frames between the photos that points must cover, or the clip is left out. By default 0.3 for
    dust3r-raw, and 0 for others; 0.3 is right for clips that a ViewCrafter teacher sees."""


Source = (
    Annotated[ProceduralClips, tyro.conf.subcommand("procedural")]
    | Annotated[CaptureClips, tyro.conf.subcommand("captures")]
)


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(Source, prepare_clips, arguments, program, DESCRIPTION)


def prepare_clips(options: ProceduralClips | CaptureClips) -> None:
    """Check everything, write the shards, print what became of the scenes.

    Raises:
        InputError: an option cannot be used, the output cannot be written, or no scene gives a clip.
    """
    from fvgen.data.precompute import parse_part, precompute
    from fvgen.procedural.clips.clip import ClipLayout

    ClipLayout(options.frames, options.height, options.width)  # refuses what is too small
    require(options.seed >= 0, "seed", "not be negative", options.seed, "0 is usual.")
    least_coverage = _least_coverage(options)
    scenes, settings = _procedural(options) if isinstance(options, ProceduralClips) else _captures(options)
    part = _launched() if options.shard is None else parse_part(options.shard)
    encoder = _encoder(options)
    unit = encoder.meta["codec"]["downscale"]
    require(
        options.height % unit == 0 and options.width % unit == 0,
        "height and width",
        f"be multiples of {unit}, of which the codec makes one",
        (options.height, options.width),
        "Ask for other sizes.",
    )
    with disk_errors("output", options.output, "Free disk space or choose another folder; finished scenes are kept."):
        summary = precompute(scenes, encoder, options.output, settings, part, _Report(), least_coverage)
    print(
        f"{summary.written} scenes written, {summary.kept} kept, {len(summary.failed)} left out; {summary.clips} clips"
    )
    if least_coverage > 0:
        made = summary.clips + summary.uncovered
        share = f"{summary.uncovered} of {made} clips ({summary.uncovered / max(made, 1):.0%})"
        print(f"{share} left out: points cover less than {least_coverage:.0%} of the frames between their photos")
    for name, reason in summary.failed.items():
        print(f"  {name}: {reason}")


def _least_coverage(options: ProceduralClips | CaptureClips) -> float:
    """The share that points must cover; 0 for procedural clips, whose points are known to be good."""
    if isinstance(options, ProceduralClips):
        return 0.0
    asked = options.least_coverage
    require(asked is None or 0 <= asked < 1, "least_coverage", "lie in [0, 1)", asked, "0.3 is for ViewCrafter.")
    return (0.3 if options.geometry == "dust3r-raw" else 0.0) if asked is None else asked


class _Report:
    """Prints a line for every scene, with the speed of this run and the time left."""

    def __init__(self) -> None:
        self.begin = time.monotonic()

    def __call__(self, done: int, total: int, name: str, summary: Summary) -> None:
        new = summary.written + len(summary.failed)
        seconds = time.monotonic() - self.begin
        left = seconds / new * (total - done) if new else 0.0
        state = f"failed: {summary.failed[name]}" if name in summary.failed else "done"
        rate = summary.clips / seconds
        print(f"[{done}/{total}] {name} {state} | {rate:.2f} clips/s, {left / 60:.0f} min left", flush=True)


def _launched() -> tuple[int, int]:
    """(i, n): this is the i-th of n processes that `accelerate launch` started; (0, 1) without it.

    They exchange nothing, so their group is never made: one that is left early breaks the others' way into it.
    """
    from fvgen.devices import use_gpu

    use_gpu(int(os.environ.get("LOCAL_RANK", "0")))
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _encoder(options: ClipOptions) -> ClipEncoder:
    from fvgen.data.clip_encodings import LatentEncoding, PixelEncoding

    if options.encoding == "pixels":
        require(
            options.model is None, "model", "be left out for pixels", options.model, "Or ask for --encoding latents."
        )
        return PixelEncoding()
    if options.model is None:
        next_step = "Name one that conversion has written."
        raise InputError(complaint("model", "be a pipeline folder for latents", None, next_step))
    from fvgen.devices import default_device, default_dtype
    from fvgen.generation.load_pipeline import load_pipeline

    device = default_device()
    pipeline = load_pipeline(options.model, default_dtype(device)).to(device)
    return LatentEncoding(options.model.name, pipeline.codec, pipeline.token_encoder(), device)


def _procedural(options: ProceduralClips) -> tuple[Sequence[Scene], dict[str, Any]]:
    from fvgen.procedural.clips.clip import ClipLayout, ProceduralScene

    require(1 <= options.clips <= _SEEDS, "clips", f"be 1 to {_SEEDS}", options.clips, "Take another --seed for more.")
    require(options.block >= 1, "block", "be at least 1", options.block, "20 is usual.")
    require(0 <= options.plane_sweep <= 1, "plane_sweep", "lie in [0, 1]", options.plane_sweep, "0.15 is usual.")
    landscape = ClipLayout(options.frames, options.height, options.width)
    portrait = ClipLayout(options.frames, options.width, options.height)
    layouts = {"landscape": [landscape], "portrait": [portrait], "both": [landscape, portrait]}[options.orientation]
    first = options.seed * _SEEDS
    scenes = [
        ProceduralScene(first + i, min(options.block, options.clips - i), layout, options.plane_sweep, options.geometry)
        for i, layout in zip(range(0, options.clips, options.block), cycle(layouts), strict=False)
    ]
    settings = {"source": "procedural", "orientation": options.orientation, "plane_sweep": options.plane_sweep}
    # Left out where they are as usual, so that sets made before these options were there can be added to.
    for name in ("geometry", "block"):
        if getattr(options, name) != getattr(ProceduralClips, name):
            settings[name] = getattr(options, name)
    return scenes, asdict(landscape) | settings


def _captures(options: CaptureClips) -> tuple[Sequence[Scene], dict[str, Any]]:
    from fvgen.data.clips import CaptureScene
    from fvgen.geometry.dust3r import Dust3r, load_network
    from fvgen.geometry.provider import GEOMETRY_PROVIDERS

    names = ", ".join(GEOMETRY_PROVIDERS)
    require(options.geometry in GEOMETRY_PROVIDERS, "geometry", f"be one of {names}", options.geometry, "Use auto.")
    require(options.clips_per_scene >= 1, "clips_per_scene", "be at least 1", options.clips_per_scene, "8 is usual.")
    root = options.captures
    require(root.is_dir(), "captures", "be a folder", root, "Check the path.")
    folders = capture_folders(root)
    require(
        len(folders) > 0,
        "captures",
        "hold a transforms.json or a COLMAP model",
        f"{root} without any",
        "Make one of photos or a video: fvgen poses PHOTOS CAPTURE",
    )
    provider = GEOMETRY_PROVIDERS[options.geometry]()
    if isinstance(provider, Dust3r):
        load_network(provider.model)  # refuses what is not installed, before every scene does
    sizes = {"frames": options.frames, "height": options.height, "width": options.width}
    scenes = [
        CaptureScene(folder, provider, options.clips_per_scene, **sizes, seed=options.seed, root=root)
        for folder in folders
    ]
    settings: dict[str, Any] = {"source": "captures", "geometry": options.geometry}
    settings["clips_per_scene"] = options.clips_per_scene
    if _least_coverage(options) > 0:
        settings["least_coverage"] = _least_coverage(options)
    return scenes, sizes | settings | {"seed": options.seed}


def capture_folders(root: Path) -> list[Path]:
    """Folders of captures at any depth. Links are followed, as data sets often lie elsewhere, but not in circles.

    What tools leave in a capture's own folders, such as ``colmap``, is no capture of its own.
    """
    from fvgen.data.read_capture import is_capture

    found: list[Path] = []
    seen: set[Path] = set()
    for name, below, _ in os.walk(root, followlinks=True):
        folder = Path(name)
        if folder.resolve() in seen:
            below.clear()
            continue
        seen.add(folder.resolve())
        below.sort()
        if is_capture(folder):
            found.append(folder)
            below[:] = [one for one in below if one not in ("colmap", "sparse", "dense", "distorted", "keyframes")]
    return sorted(found)
