"""What every benchmark's JSON carries, and how it is written."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fvgen.evaluation.timing.machine import write_json

__all__ = ["settings_of", "write_json"]


def settings_of(options: Any) -> dict[str, Any]:
    """The options of a run as JSON, without its folders and files: where they lie is nobody's business."""
    return {name: value for name, value in asdict(options).items() if not _holds_path(value)}


def _holds_path(value: Any) -> bool:
    return isinstance(value, Path) or (isinstance(value, dict) and any(isinstance(v, Path) for v in value.values()))
