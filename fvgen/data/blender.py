"""Reader of Blender's captures, as NeRF's synthetic scenes have them: one ``transforms_SPLIT.json`` per split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvgen.data.capture import CaptureFiles
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.transforms_json import described_capture, load_description, require_frames


def find_blender(path: Path) -> Path | None:
    """The folder that a path means, when it is such a capture: itself, or that of one of its files."""
    folder = path.parent if path.name.startswith("transforms_") and path.suffix == ".json" else path
    return folder if (folder / "transforms_train.json").is_file() else None


def read_blender(folder: Path, notes: CaptureNotes) -> CaptureFiles:
    """The photos of all splits that there are.

    Raises:
        InputError: a description is damaged.
    """
    frames: list[Any] = []
    splits = {}
    for split in ("train", "val", "test"):
        file = folder / f"transforms_{split}.json"
        if file.is_file():
            meta = load_description(file)
            require_frames(meta, file)
            camera = {key: value for key, value in meta.items() if key != "frames"}
            entries = [{**camera, **entry} if isinstance(entry, dict) else entry for entry in meta["frames"]]
            splits[f"{split}_filenames"] = [e["file_path"] for e in entries if isinstance(e, dict) and "file_path" in e]
            frames += entries
    notes.without_points("Blender writes none")
    return described_capture(folder, {"frames": frames, **splits}, notes)
