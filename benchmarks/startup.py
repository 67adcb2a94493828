"""How long commands take before they work: importing `fvgen`, and ``ns-train`` up to its help and to its first photo.

    python benchmarks/startup.py --output startup_cpu.json

Every figure is the median over fresh processes: elapsed seconds, and processor seconds, which other programs on the
machine hardly change.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import time
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
    bare = _median([sys.executable, "-c", "pass"], options.imports)
    fvgen = _median([sys.executable, "-c", "import fvgen"], options.imports)
    rows = {
        "import fvgen, beside bare Python": {name: fvgen[name] - bare[name] for name in bare},
        "import torch, beside bare Python": _beside(bare, [sys.executable, "-c", "import torch"], options.commands),
        "ns-train fvgen-splat-cpu --help": _median([_TRAIN, _METHOD, "--help"], options.commands),
        "of that, in files of this project": {"seconds": _own_imports()},
        "ns-train, up to the first photo": _to_the_first_photo(options.commands),
    }
    for name, row in rows.items():
        print(f"{name}: " + ", ".join(f"{value:.3f} {key.replace('_', ' ')}" for key, value in row.items()))
    write_json(options.output, {"rows": rows, "settings": settings_of(options)})


def _beside(bare: dict[str, float], command: Sequence[str], runs: int) -> dict[str, float]:
    return {name: value - bare[name] for name, value in _median(command, runs).items()}


def _median(command: Sequence[str], runs: int) -> dict[str, float]:
    """Elapsed and processor seconds of a command."""
    times = [_timed(command) for _ in range(runs)]
    return {"seconds": median(one[0] for one in times), "processor_seconds": median(one[1] for one in times)}


def _timed(command: Sequence[str]) -> tuple[float, float]:
    started, before = time.perf_counter(), _processor_seconds()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, _processor_seconds() - before


def _processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _own_imports() -> float:
    """Seconds that Python spends in the files of this project while ``ns-train`` starts, what they import left out."""
    command = [sys.executable, "-X", "importtime", _TRAIN, _METHOD, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = [(int(match[1]), match[2]) for match in map(_IMPORT.match, shown.splitlines()) if match]
    return sum(time for time, name in found if name.split(".")[0] in ("fvgen", "fvgen_ns")) / 1e6


def _to_the_first_photo(runs: int) -> dict[str, float]:
    """``ns-train`` on a small capture, until it says that it reads photos; then it is ended."""
    with tempfile.TemporaryDirectory() as scratch:
        capture = Path(scratch) / "room"
        write_room_capture(capture, seed=0, layout=TINY)
        environment = os.environ | {"XDG_CACHE_HOME": scratch}
        command = [_TRAIN, _METHOD, "--data", str(capture), "--output-dir", scratch, "--vis", "tensorboard"]
        times = []
        for _ in range(runs):
            started, before = time.perf_counter(), _processor_seconds()
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            ) as process:
                assert process.stdout is not None
                while (line := process.stdout.readline()) and b"photos" not in line:
                    pass
                elapsed = time.perf_counter() - started
                process.kill()
            times.append((elapsed, _processor_seconds() - before))
    return {"seconds": median(one[0] for one in times), "processor_seconds": median(one[1] for one in times)}


if __name__ == "__main__":
    main(tyro.cli(Options))
