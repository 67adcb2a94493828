"""Photos and generated views of a capture as a Nerfstudio dataset that any splat tool can go on from."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console

from fvgen.checks import InputError, require
from fvgen.files import read_json
from fvgen_ns.densify import DensifyConfig, views_key
from fvgen_ns.frames import CaptureSplit
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig


@dataclass
class GenerateViews(DensifyConfig):
    """Write photos and generated views of a capture as a dataset, with a contact sheet and a video of the path."""

    data: Path = field(kw_only=True)
    """Capture: a folder with transforms.json, a COLMAP model or Blender's transforms_train.json."""
    output: Path = field(kw_only=True)
    """Folder to write; one that holds a half-finished earlier run of the same settings is finished."""
    seed_holes: tyro.conf.Suppress[str] = "never"  # type: ignore[assignment]  # a matter of the splat, not of views
    cache_dir: tyro.conf.Suppress[Path | None] = None
    views: tyro.conf.Suppress[Path | None] = None


def main(config: GenerateViews) -> None:
    """Check everything, then generate.

    Raises:
        InputError: the capture cannot be used, or the output folder holds something else or cannot be written.
    """
    from fvgen.generation.contact_sheet import write_contact_sheet, write_mp4
    from fvgen.generation.views_folder import is_complete
    from fvgen.generation.views_reading import load_views
    from fvgen_ns.produce import produce

    console = Console()
    require(config.geometry != "none", "--geometry", "give points to make views from", "none", "Choose auto.")
    split = CaptureSplit.read(FVGenDataParserConfig(data=config.data).setup(), "train")
    split.check_training()
    settings = DensifyConfig(**{name: getattr(config, name) for name in DensifyConfig.__dataclass_fields__})
    settings.check(split)
    key = views_key(split, settings)
    if is_complete(config.output, key):
        console.print(f"{config.output} holds these views already.")
    else:
        _check_output(config.output, key)
        produce(split, settings, config.output, key)
    views = load_views(config.output)
    rows = _clips(json.loads((config.output / "transforms.json").read_text()))
    sheet, video = config.output / "contact_sheet.png", config.output / "path.mp4"
    write_contact_sheet(sheet, views, rows)
    write_mp4(video, views.rgb[torch.cat([rows[0], *(row[1:] for row in rows[1:])])])
    photos = int(views.is_photo.sum())
    console.print(f"{photos} photos and {len(views) - photos} generated views in {config.output}")
    console.print(f"Contact sheet: {sheet}", soft_wrap=True)
    console.print(f"Video: {video}", soft_wrap=True)
    console.print(f"Go on with: ns-train splatfacto --data {config.output}", soft_wrap=True)


def _check_output(folder: Path, key: str) -> None:
    """Finished views of another capture, or of other settings, are not thrown away unasked."""
    require(not folder.exists() or folder.is_dir(), "--output", "be a folder", folder, "Choose another name.")
    found = (read_json(folder / "transforms.json") or {}).get("fvgen", {})
    require(
        found.get("key", key) == key,
        "--output",
        "be a new folder or hold views of this capture and these settings",
        f"{folder} with others",
        "Choose another folder, or delete this one.",
    )


def _clips(meta: dict[str, Any]) -> list[torch.Tensor]:
    """Frame indices of each clip in path order: a photo, what was generated after it, the next photo."""
    clips: list[list[int]] = []
    ends: list[int] | None = None
    for i, frame in enumerate(meta["frames"]):
        if frame["fvgen"]["photo"]:
            continue
        if frame["fvgen"]["ends"] != ends:
            ends = frame["fvgen"]["ends"]
            clips.append([ends[0], ends[1]])
        clips[-1].insert(-1, i)
    return [torch.tensor(clip) for clip in clips or [list(range(len(meta["frames"])))]]


if __name__ == "__main__":
    try:
        main(tyro.cli(GenerateViews))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
