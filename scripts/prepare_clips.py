"""Training clips as WebDataset shards, from posed captures or from the procedural generator.

python scripts/prepare_clips.py procedural --output clips/landscape --clips 1500
python scripts/prepare_clips.py captures --captures DL3DV-10K --output clips/dl3dv --encoding latents \\
    --model models/viewcrafter-512 --frames 16 --height 320 --width 512

A run that is broken off goes on where it was; several processes or machines share the work with --shard 0/4, 1/4, ...
or when started through `accelerate launch` (on CPUs with --config_file scripts/accelerate/ddp_cpu.yaml). Two cores make
about 1.3 procedural clips of 8 frames at 256x160 a second.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fvgen.checks import InputError, complaint, require

if TYPE_CHECKING:
    from fvgen.data.clip_encodings import ClipEncoder
    from fvgen.data.precompute import Scene, Summary

_SEEDS = 1_000_000
"""Clips that one seed may ask for before it meets the next one's."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What both kinds of clips have."""

    output: Path
    """Folder of the shards."""
    frames: int = 8
    """Frames of a clip, the photos at its ends counted."""
    height: int = 160
    """Of landscape clips, in pixels."""
    width: int = 256
    """Of landscape clips, in pixels."""
    encoding: Literal["pixels", "latents"] = "pixels"
    """Pixels are encoded on reading, as residuals on the warp; latents are made now by --model."""
    model: Path | None = None
    """Pipeline folder whose codec and towers make the latents."""
    shard: str | None = None
    """i/n: take the i-th of n parts of the scenes; by default what `accelerate launch` says, else all."""
    seed: int = 0
    """Of all random choices."""


@dataclass(frozen=True, kw_only=True)
class Procedural(Shared):
    """Textured scenes with exact depth, spoilt as stereo spoils it unless --geometry says otherwise."""

    clips: int = 1500
    """How many."""
    orientation: Literal["landscape", "portrait", "both"] = "both"
    """Portrait clips are WIDTH high and HEIGHT wide; both take turns, shard by shard."""
    plane_sweep: float = 0.15
    """Share of the clips whose cloud comes from real plane sweep."""
    geometry: Literal["defects", "plane-sweep", "exact"] = "defects"
    """Of the other clips: exact depth spoilt as stereo spoils it, plane sweep, or exact depth as it is."""
    block: int = 20
    """Clips of a shard."""


@dataclass(frozen=True, kw_only=True)
class Captures(Shared):
    """Posed captures: folders with a transforms.json or a COLMAP model, at any depth below --captures."""

    captures: Path
    """Folder of captures."""
    clips_per_scene: int = 8
    """Clips of a capture, of random start and stride below 5."""
    geometry: str = "auto"
    """Name of the geometry provider: auto, plane-sweep, capture-depth, or dust3r, which must be installed."""


Options = (
    Annotated[Procedural, tyro.conf.subcommand("procedural")] | Annotated[Captures, tyro.conf.subcommand("captures")]
)


def main(options: Procedural | Captures) -> None:
    """Check everything, write the shards, say what became of the scenes.

    Raises:
        InputError: an option cannot be used, the output cannot be written, or no scene gives a clip.
    """
    from fvgen.data.precompute import parse_part, prepare
    from fvgen.procedural.clips.clip import ClipLayout

    ClipLayout(options.frames, options.height, options.width)  # refuses what is too small
    require(options.seed >= 0, "seed", "not be negative", options.seed, "0 is usual.")
    scenes, settings = _procedural(options) if isinstance(options, Procedural) else _captures(options)
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
    begin = time.monotonic()

    def report(done: int, total: int, name: str, summary: Summary) -> None:
        new = summary.written + len(summary.failed)
        seconds = time.monotonic() - begin
        left = seconds / new * (total - done) if new else 0.0
        state = f"failed: {summary.failed[name]}" if name in summary.failed else "done"
        rate = summary.clips / seconds
        print(f"[{done}/{total}] {name} {state} | {rate:.2f} clips/s, {left / 60:.0f} min left", flush=True)

    try:
        summary = prepare(scenes, encoder, options.output, settings, part, report)
    except OSError as error:
        next_step = "Free disk space or choose another folder, and start again: what is whole is kept."
        raise InputError(complaint(str(options.output), "be a folder to write in", f"'{error}'", next_step)) from error
    print(
        f"{summary.written} scenes written, {summary.kept} kept, {len(summary.failed)} left out; {summary.clips} clips"
    )
    for name, reason in summary.failed.items():
        print(f"  {name}: {reason}")


def _launched() -> tuple[int, int]:
    import torch
    from accelerate import PartialState

    from fvgen.devices import default_device, is_gpu

    state = PartialState(cpu=not is_gpu(default_device()))  # gives each process its GPU, too
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # nothing is to be said; one left open may abort at exit
    return state.process_index, state.num_processes


def _encoder(options: Shared) -> ClipEncoder:
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


def _procedural(options: Procedural) -> tuple[Sequence[Scene], dict[str, Any]]:
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
    # left out where they are as usual, so that sets made before these options were there can be added to
    for name in ("geometry", "block"):
        if getattr(options, name) != getattr(Procedural, name):
            settings[name] = getattr(options, name)
    return scenes, asdict(landscape) | settings


def _captures(options: Captures) -> tuple[Sequence[Scene], dict[str, Any]]:
    from fvgen.data.clips import CaptureScene
    from fvgen.geometry.dust3r import Dust3r, load_network
    from fvgen.geometry.provider import GEOMETRY_PROVIDERS

    names = ", ".join(GEOMETRY_PROVIDERS)
    require(options.geometry in GEOMETRY_PROVIDERS, "geometry", f"be one of {names}", options.geometry, "Use auto.")
    require(options.clips_per_scene >= 1, "clips_per_scene", "be at least 1", options.clips_per_scene, "8 is usual.")
    root = options.captures
    require(root.is_dir(), "captures", "be a folder", root, "Check the path.")
    folders = _capture_folders(root)
    require(
        len(folders) > 0,
        "captures",
        "hold a transforms.json or a COLMAP model",
        f"{root} without any",
        "Make one with: ns-process-data images --data PHOTOS --output-dir CAPTURE",
    )
    provider = GEOMETRY_PROVIDERS[options.geometry]()
    if isinstance(provider, Dust3r):
        load_network(provider.model)  # refuses what is not installed, before every scene does
    sizes = {"frames": options.frames, "height": options.height, "width": options.width}
    scenes = [
        CaptureScene(folder, provider, options.clips_per_scene, **sizes, seed=options.seed, root=root)
        for folder in folders
    ]
    settings = {"source": "captures", "geometry": options.geometry, "clips_per_scene": options.clips_per_scene}
    return scenes, sizes | settings | {"seed": options.seed}


def _capture_folders(root: Path) -> list[Path]:
    """Folders of captures at any depth; links are followed, because data sets often lie elsewhere, but not in circles.

    The model that ns-process-data leaves in a capture's ``colmap`` folder is no capture of its own.
    """
    from fvgen.data.colmap import find_model

    found, seen = [], set()
    for name, below, files in os.walk(root, followlinks=True):
        folder = Path(name)
        if folder.resolve() in seen:
            below.clear()
            continue
        seen.add(folder.resolve())
        below.sort()
        if "transforms.json" in files or find_model(folder) is not None:
            found.append(folder)
            if "colmap" in below:
                below.remove("colmap")
    return sorted(found)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))  # type: ignore[arg-type]
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
