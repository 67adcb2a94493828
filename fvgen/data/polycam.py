"""Reader of Polycam's raw export, unpacked: photos, cameras and measured depth of a phone in ``keyframes``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvgen.data.capture import CaptureFiles
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.transforms_json import described_capture, load_description

_KINDS = ("corrected_", "")
"""Photos and cameras after loop closure, where there are some, and as they were taken."""
_WORLD_ROWS = (2, 0, 1)
"""Its world has y up; with these rows first, z is."""


def find_polycam(path: Path) -> Path | None:
    """The folder of an export that a path means: itself, or the one whose ``keyframes`` it is."""
    folder = path.parent if path.name == "keyframes" else path
    return folder if any((folder / "keyframes" / f"{kind}cameras").is_dir() for kind in _KINDS) else None


def read_polycam(folder: Path, notes: CaptureNotes) -> CaptureFiles:
    """Photos with a camera, and their depth in millimetres.

    Raises:
        InputError: a camera's file is damaged.
    """
    kind = next(kind for kind in _KINDS if any((folder / "keyframes" / f"{kind}cameras").glob("*.json")) or not kind)
    cameras = sorted((folder / "keyframes" / f"{kind}cameras").glob("*.json"))
    notes.without_points("Polycam's raw export has none")
    return described_capture(folder, {"frames": [_entry(folder, kind, camera) for camera in cameras]}, notes)


def _entry(folder: Path, kind: str, camera: Path) -> dict[str, Any]:
    """A camera's file as a frame of ``transforms.json``."""
    about = load_description(camera)
    rows = [[about.get(f"t_{row}{column}") for column in range(4)] for row in _WORLD_ROWS]
    depth = f"keyframes/depth/{camera.stem}.png"
    return {
        "file_path": f"keyframes/{kind}images/{camera.stem}.jpg",
        "transform_matrix": rows,
        **{key: about.get(name) for key, name in (("fl_x", "fx"), ("fl_y", "fy"), ("cx", "cx"), ("cy", "cy"))},
        **{key: about.get(name) for key, name in (("w", "width"), ("h", "height"))},
        **({"depth_file_path": depth} if (folder / depth).is_file() else {}),
    }
