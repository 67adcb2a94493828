"""What every benchmark's JSON carries, and how it is written."""

from __future__ import annotations

import datetime
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fvgen.devices import cpu_count

_PACKAGES = ("torch", "nerfstudio", "gsplat", "numba", "numpy", "diffusers", "transformers", "opencv-python-headless")


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, date and the versions of what is measured."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": cpu_count(),
        "gpu": gpu,
        "versions": versions,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` with the machine's description, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(json.dumps({**data, "machine": machine()}, indent=1) + "\n")
    unfinished.replace(path)
