"""Results of an evaluation, one file each, named by what was run: a stopped evaluation goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fvgen.checks import InputError
from fvgen.files import disk_errors, read_json, sha256, write_json


class RunResults:
    """A folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "results"

    def get_or_run(self, config: Mapping[str, Any], action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result for this configuration: the stored one, or what ``action`` gives, which is stored.

        A failure is returned as ``{"failed": "..."}`` and not stored: it loses no other run, and is tried again the
        next time.

        Args:
            config: everything that decides the result, as JSON values.
            action: computes it.
        """
        path = self.folder / f"{config_key(config)}.json"
        stored = read_json(path)
        if stored is not None:
            return dict(stored["result"])
        try:
            result = action()
        except (InputError, RuntimeError, OSError) as error:
            return {"failed": " ".join(str(error).split())[:500]}
        with disk_errors("--output", self.folder, "Free some space, or choose another folder."):
            write_json(path, {"config": dict(config), "result": result})
        return result


def config_key(config: Mapping[str, Any]) -> str:
    """Hash of a configuration; the order of its keys does not matter."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def folder_digest(folder: Path) -> str:
    """Hash of the files of a folder and their names: two equal captures are the same input."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return digest.hexdigest()[:16]
