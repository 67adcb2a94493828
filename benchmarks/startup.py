"""How long commands take before they work: importing `fvgen`, and ``ns-train`` up to its help and to its first photos.

    python benchmarks/startup.py --output startup_cpu.json

Every figure is the median over fresh processes, in processor seconds, which other programs on the machine change less
than elapsed ones. Imports are given without what Python itself takes.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro
from reporting import settings_of, write_json

from fvgen.procedural.rooms.capture import TINY, write_room_capture

_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")
_TRAIN = str(Path(sys.executable).with_name("ns-train"))
_METHOD = "fvgen-splat-cpu"


@dataclass
class Options:
    """Measure start-up."""

    output: Path
    """JSON file to write."""
    imports: int = 20
    """Fresh processes for an import."""
    commands: int = 5
    """Fresh processes for a command."""


def main(options: Options) -> None:
    """Measure, print and write."""
    bare = _processor_seconds_of([sys.executable, "-c", "pass"], options.imports)
    rows = {
        "import fvgen": _processor_seconds_of([sys.executable, "-c", "import fvgen"], options.imports) - bare,
        "import torch": _processor_seconds_of([sys.executable, "-c", "import torch"], options.commands) - bare,
        "ns-train fvgen-splat-cpu --help": _processor_seconds_of([_TRAIN, _METHOD, "--help"], options.commands),
        "ns-train, until photos are read": _processor_seconds_until_photos(options.commands),
    }
    for name, seconds in rows.items():
        print(f"{name}: {seconds:.3f} processor seconds")
    share = _own_share()
    print(f"Share of this project's files in the imports of ns-train: {share:.3f}")
    figures = {name: {"processor_seconds": seconds} for name, seconds in rows.items()}
    write_json(options.output, {"rows": figures, "own_share_of_imports": share, "settings": settings_of(options)})


def _processor_seconds_of(command: Sequence[str], runs: int) -> float:
    """Median over fresh processes."""
    times = []
    for _ in range(runs):
        before = _used_by_children()
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        times.append(_used_by_children() - before)
    return median(times)


def _used_by_children() -> float:
    """Processor seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _own_share() -> float:
    """Share of the files of this project, without what they import, in the time of all imports of ``ns-train``."""
    command = [sys.executable, "-X", "importtime", _TRAIN, _METHOD, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = [(int(match[1]), match[2]) for match in map(_IMPORT.match, shown.splitlines()) if match]
    own = sum(time for time, name in found if name.split(".")[0] in ("fvgen", "fvgen_ns"))
    return own / sum(time for time, _ in found)


def _processor_seconds_until_photos(runs: int) -> float:
    """``ns-train`` on a small capture, until it says that it reads photos; then it is ended. Median."""
    times = []
    with tempfile.TemporaryDirectory() as scratch:
        capture = Path(scratch) / "room"
        write_room_capture(capture, seed=0, layout=TINY)
        environment = os.environ | {"XDG_CACHE_HOME": scratch}
        command = [_TRAIN, _METHOD, "--data", str(capture), "--output-dir", scratch, "--vis", "tensorboard"]
        for _ in range(runs):
            before = _used_by_children()
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdout is not None
                while (line := process.stdout.readline()) and b"photos" not in line:
                    pass
                process.kill()
            times.append(_used_by_children() - before)
    return median(times)


if __name__ == "__main__":
    main(tyro.cli(Options))
