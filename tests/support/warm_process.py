"""Commands in processes of their own that need not import Nerfstudio: a process that has done so, and nothing else, is
forked for each. Importing takes longer than what most tests ask of a command."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = [f"nerfstudio.scripts.{name}" for name in ("train", "eval", "exporter", "render")]


def run_warm(
    line: Sequence[str], cwd: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess:
    """As `subprocess.run` of a Python script with its arguments, whose output is captured as text."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with tempfile.TemporaryDirectory() as folder:
        printed = [Path(folder) / name for name in ("out", "err")]
        process = context.Process(target=_run, args=(list(line), cwd, dict(environment), printed))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            raise subprocess.TimeoutExpired(line, timeout)
        return subprocess.CompletedProcess(line, process.exitcode, *(path.read_text() for path in printed))


def _run(line: list[str], cwd: Path, environment: dict[str, str], printed: list[Path]) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))  # read when torch was imported
    os.chdir(cwd)
    for descriptor, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = line
    sys.path.insert(0, str(Path(line[0]).parent))  # as Python does for a script
    runpy.run_path(line[0], run_name="__main__")
