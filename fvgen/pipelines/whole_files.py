"""Files that are there whole or not at all, and known by their checksum."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished"
"""End of the name of a file that is still being written."""


def store(path: Path, content: bytes | Path) -> str:
    """Write bytes, or copy a file, under a temporary name beside ``path`` and rename it; its checksum.

    Raises:
        OSError: the folder cannot be written or is full; ``path`` is then as it was.
    """
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, unfinished)
        else:
            unfinished.write_bytes(content)
        found = checksum(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return found


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None when it is missing or damaged, which both mean that the work was not finished."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def intact(folder: Path, checksums: Mapping[str, str]) -> bool:
    """Whether every named file is there and is what was written."""
    return all((folder / name).is_file() and checksum(folder / name) == sum_ for name, sum_ in checksums.items())
