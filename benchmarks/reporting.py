"""What every benchmark's JSON carries, and how figures and pictures are written."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fvgen.evaluation.timing.machine import write_json
from fvgen.files import whole_file

__all__ = ["settings_of", "write_json", "write_picture"]


def settings_of(options: Any) -> dict[str, Any]:
    """The options of a run as JSON, without its folders and files: where they lie is nobody's business."""
    return {name: value for name, value in asdict(options).items() if not _holds_path(value)}


def _holds_path(value: Any) -> bool:
    return isinstance(value, Path) or (isinstance(value, dict) and any(isinstance(v, Path) for v in value.values()))


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write [H, W, 3] uint8 as the PNG or JPEG that the file's name asks for."""
    with whole_file(path) as unfinished:
        kind = "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else "PNG"
        Image.fromarray(pixels).save(unfinished, kind, **({"quality": 90} if kind == "JPEG" else {}))
