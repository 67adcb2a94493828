"""Nerfstudio's own commands, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from warm_process import run_warm

from fvgen.devices import default_device, is_gpu

BIN = Path(sys.executable).parent
STEPS = 40
"""Steps of a training unless it is given others."""
_TIMEOUT = 400
"""Seconds."""


def run_environment(cwd: Path, columns: int = 200) -> dict[str, str]:
    """As in an activated environment (ns-render looks for ffmpeg), with a cache of its own and no terminal."""
    changed = {"XDG_CACHE_HOME": cwd / "cache", "OMP_NUM_THREADS": 1, "COLUMNS": columns}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **{name: str(value) for name, value in changed.items()}}


def run(
    command: str | Path,
    *arguments: object,
    cwd: Path,
    check: bool = True,
    columns: int = 200,
    folder: Path | None = None,
    fresh: bool = False,
) -> subprocess.CompletedProcess:
    """A command of the environment the tests run in, without a terminal.

    Args:
        command: its name, or the path of a Python script.
        arguments: of the command line.
        cwd: folder it runs in, and keeps its cache in.
        check: whether the test fails where the command does.
        columns: width of what it prints.
        folder: another folder to run in.
        fresh: start Python anew, as a shell does. A GPU always asks for that: it cannot be used after a fork.
    """
    line, where, environment = [str(BIN / command), *map(str, arguments)], folder or cwd, run_environment(cwd, columns)
    if fresh or is_gpu(default_device()):
        done = subprocess.run(
            [sys.executable, *line],
            cwd=where,
            env=environment,
            text=True,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    else:
        done = run_warm(line, where, environment, _TIMEOUT)
    if check and done.returncode:
        pytest.fail(
            f"{command} {arguments} exited with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


def training(capture: Path, *options: object, timestamp: str = "run") -> list[str]:
    """Arguments of ns-train for a short run at a small size."""
    arguments = {
        "--data": capture,
        "--vis": "tensorboard",
        "--timestamp": timestamp,
        "--experiment-name": "small",
        "--max-num-iterations": STEPS,
        "--pipeline.datamanager.image-size": 96,
        "--pipeline.datamanager.densify.working-size": 96,
        "--pipeline.datamanager.densify.frames-per-clip": 4,
        "--pipeline.datamanager.densify.trials": False,  # test_parts.py
    }
    return ["fvgen-splat-cpu", *(str(part) for pair in arguments.items() for part in pair), *map(str, options)]


def train(
    cwd: Path, capture: Path, *options: object, timestamp: str = "run", check: bool = True, fresh: bool = False
) -> subprocess.CompletedProcess:
    """ns-train on a capture, in a folder of its own."""
    return run("ns-train", *training(capture, *options, timestamp=timestamp), cwd=cwd, check=check, fresh=fresh)


def config_of(cwd: Path, timestamp: str = "run") -> Path:
    """The configuration that ``train`` left in this folder."""
    return cwd / "outputs/small/fvgen-splat-cpu" / timestamp / "config.yml"


def cache_state(cwd: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file in the cache of generated views."""
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted((cwd / "cache").rglob("*")) if p.is_file()}
