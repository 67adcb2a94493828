"""On what machine figures were measured, how long work takes there, and how figures are written."""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from fvgen import files
from fvgen.devices import cpu_count, gpu_name, synchronize

_PACKAGES = ("torch", "nerfstudio", "gsplat", "numba", "numpy", "diffusers", "transformers", "opencv-python-headless")


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, date and the versions of what is measured."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": cpu_count(),
        "gpu": gpu_name(),
        "versions": versions,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


Clock = Callable[[], float]


def median_seconds(
    work: Callable[[], Any], device: torch.device | str, repeats: int, clock: Clock = time.perf_counter
) -> float:
    """Median seconds of ``work`` after one run to warm up, the device's queue drained before and after.

    ``clock`` is wall time, or `time.process_time` on a CPU that has other work, too.
    """
    work()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = clock()
        work()
        synchronize(device)
        seconds.append(clock() - start)
    return statistics.median(seconds)


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write ``data`` with the machine's description, whole or not at all."""
    files.write_json(path, {**data, "machine": machine()})
