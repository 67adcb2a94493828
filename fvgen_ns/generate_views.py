"""Photos and generated views of a capture as a Nerfstudio dataset that any splat tool can go on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from fvgen.checks import require
from fvgen.command import run
from fvgen.data.capture import CaptureFrame
from fvgen.files import read_json, require_writable
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.densify import DensifyConfig, progress_bars, views_key
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig
from fvgen_ns.short_forms import inherited_forms_alone
from fvgen_ns.views_cache import alone_in

_IF_FULL = "Free some space, or choose another folder: --output FOLDER."


@inherited_forms_alone
@dataclass
class GenerateViews(DensifyConfig):
    """Write photos and generated views of a capture as a dataset, with a contact sheet and a video of the path."""

    data: Path = field(kw_only=True)
    """Capture: folder with transforms.json, a COLMAP model, Blender's transforms_train.json, OpenSfM's
    reconstruction.json or Polycam's keyframes; or that file or model itself."""
    output: Path = field(kw_only=True)
    """Folder to write. One that holds a half-finished earlier run of the same settings is finished."""
    seed_holes: tyro.conf.Suppress[str] = "never"  # type: ignore[assignment]  # a matter of the splat, not of views
    trials: tyro.conf.Suppress[bool] = False  # all views are asked for
    cache_dir: tyro.conf.Suppress[Path | None] = None
    views: tyro.conf.Suppress[Path | None] = None


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(GenerateViews, generate_views, arguments, program)


def generate_views(config: GenerateViews) -> None:
    """Check everything, then generate.

    The photos that the capture holds back are written too, as ``test_filenames``, and all masks.

    Raises:
        InputError: the capture cannot be used, or the output folder holds something else or cannot be written.
    """
    from fvgen.generation.views_reading import load_views
    from fvgen.pictures import write_contact_sheet, write_mp4

    console = Console()
    require(config.geometry != "none", "--geometry", "give points to make views from", "none", "Choose auto.")
    parser = FVGenDataParserConfig(data=config.data).setup()
    parser.decodes = False  # `CaptureSplit.decode` does, once
    training = CaptureSplit.read(parser, "train")
    training.check_training()
    held_out = held_out_frames(training, [CaptureSplit.read(parser, name) for name in ("test", "val")])
    settings = DensifyConfig(**{name: getattr(config, name) for name in DensifyConfig.__dataclass_fields__})
    settings.check()
    settings.check_depth(training)
    for note in training.notes:
        console.print(f"Note: {note}", markup=False, soft_wrap=True)
    if not _write(training, held_out, settings, config.output):
        console.print(f"{config.output} holds these views already.")
    views = load_views(config.output)
    rows = _clips(read_json(config.output / "transforms.json") or {})
    sheet, video = config.output / "contact_sheet.png", config.output / "path.mp4"
    write_contact_sheet(sheet, views, rows)
    write_mp4(video, views.rgb[torch.cat([rows[0], *(row[1:] for row in rows[1:])])])
    photos = int(views.is_photo.sum())
    held = f", {len(held_out)} held-out photos" if held_out else ""
    console.print(f"{photos} photos{held} and {len(views) - photos} generated views in {config.output}")
    console.print(f"Contact sheet: {sheet}", soft_wrap=True)
    console.print(f"Video: {video}", soft_wrap=True)
    console.print(f"Go on with: ns-train splatfacto --data {config.output}", soft_wrap=True)


def held_out_frames(training: CaptureSplit, others: list[CaptureSplit]) -> list[CaptureFrame]:
    """The photos of the other splits that are not trained on: where a capture holds none back, training photos stand in
    for them."""
    trained = {frame.photo for frame in training.frames}
    found = {frame.photo: frame for split in others for frame in split.frames}
    return [frame for photo, frame in found.items() if photo not in trained]


def _write(training: CaptureSplit, held_out: list[CaptureFrame], settings: DensifyConfig, output: Path) -> bool:
    """Fill the folder; whether there was anything to do."""
    from fvgen.data.working_size import at_size, capture_of, working_size
    from fvgen.generation.views_folder import is_complete, refuse_foreign
    from fvgen_ns.produce import produce

    if is_complete(output, views_key(training, settings, held_out)):
        return False
    refuse_foreign(output)
    require_writable("views folder", output, _IF_FULL)
    size = working_size([frame.size for frame in training.frames], settings.working_size)
    with progress_bars() as progress:
        training, scaled = training.decode(
            lambda one: at_size(one, size), at_least=2 * max(size), what="photos", progress=progress
        )
    training.check_depth()
    key = views_key(training, settings, held_out)  # without the photos that could not be read
    if is_complete(output, key):
        return False
    found = (read_json(output / "transforms.json") or {}).get("fvgen", {}).get("key", key)
    same = "be a new folder or hold views of this capture and these settings"
    require(found == key, "--output", same, f"{output} with others", "Choose another folder, or delete this one.")
    with alone_in(output, _IF_FULL) as alone:
        require(alone, "--output", "not be written by another run", output, "Wait for it, or choose another folder.")
        capture = capture_of(scaled, training.sparse)
        produce(training, capture, settings, output, key, held_out, training.notes, if_full=_IF_FULL)
    return True


def _clips(meta: Mapping[str, Any]) -> list[torch.Tensor]:
    """Frame indices of each clip in path order: a photo, what was generated after it, the next photo."""
    clips: list[list[int]] = []
    ends: list[int] | None = None
    photos = []
    for i, frame in enumerate(meta["frames"]):
        about = frame["fvgen"]
        if about["photo"]:
            photos += [] if about["held_out"] else [i]
            continue
        if about["ends"] != ends:
            ends = about["ends"]
            clips.append([ends[0], ends[1]])
        clips[-1].insert(-1, i)
    return [torch.tensor(clip) for clip in clips or [photos]]
