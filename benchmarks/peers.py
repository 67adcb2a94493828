"""Splat training beside a peer's program, on one CPU: seconds a step of ours over the peer's.

    python benchmarks/peers.py --opensplat PATH --capture FOLDER --output peers.json

OpenSplat (github.com/pierotofy/OpenSplat, AGPL-3.0) is a program that users build themselves. Both train on the same
capture at about the same size, once for few and once for more steps: the difference is what steps cost, start-up left
out. Wall and CPU seconds are printed, for each number of threads: on a machine with other work CPU seconds count.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image
from reporting import write_json

from fvgen.checks import InputError, require


@dataclass
class Options:
    """Benchmark against other programs that train splats on a CPU."""

    opensplat: Path
    """OpenSplat's program."""
    capture: Path
    """Capture that both read: a folder in Nerfstudio's format with sparse points, or one of COLMAP."""
    output: Path | None = None
    """JSON file to write the results to."""
    steps: int = 100
    """Steps whose cost is measured."""
    size: int = 256
    """Longest side of the images, in pixels. OpenSplat only divides by whole numbers."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads."""


@dataclass(frozen=True)
class Seconds:
    """What a run took."""

    wall: float
    cpu: float


def run(command: list[str], threads: int) -> Seconds:
    """Run a program to its end.

    Raises:
        InputError: it fails; the text holds its last lines.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise InputError(f"{command[0]} failed: {(done.stdout + done.stderr)[-1000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Seconds(time.perf_counter() - start, cpu)


def seconds_per_step(command: Callable[[int], list[str]], steps: int, threads: int) -> Seconds:
    """Seconds of one of ``steps`` steps beyond a tenth of them, which warm up."""
    few = steps // 10 + 1
    short, long = (run(command(count), threads) for count in (few, few + steps))
    return Seconds((long.wall - short.wall) / steps, (long.cpu - short.cpu) / steps)


def main(options: Options) -> None:
    """Measure both, print the ratio, write JSON."""
    require(options.steps >= 10, "--steps", "be at least 10", options.steps, "Ask for more.")
    require(options.opensplat.is_file(), "--opensplat", "be a program", options.opensplat, "Build it first.")
    photos = [p for p in sorted(options.capture.rglob("*")) if p.suffix.lower() in (".jpg", ".jpeg", ".png")]
    require(bool(photos), "--capture", "hold photos", options.capture, "Name a capture's folder.")
    with Image.open(photos[0]) as photo:
        shrink = max(round(max(photo.size) / options.size), 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:

        def ours(count: int) -> list[str]:
            command = [sys.executable, "-m", "nerfstudio.scripts.train", "fvgen-splat-cpu", "--vis", "tensorboard"]
            command += ["--data", str(options.capture), "--output-dir", folder, "--max-num-iterations", str(count)]
            return [*command, "--pipeline.datamanager.image-size", str(options.size)]

        def peer(count: int) -> list[str]:
            command = [str(options.opensplat), str(options.capture), "--cpu", "-n", str(count)]
            return [*command, "-d", str(shrink), "-o", f"{folder}/splat.ply"]

        for threads in options.threads:
            own, other = (seconds_per_step(command, options.steps, threads) for command in (ours, peer))
            ratios = {"wall": other.wall / own.wall, "cpu": other.cpu / own.cpu}
            rows.append({"threads": threads, "ours": vars(own), "opensplat": vars(other), "times_as_long": ratios})
            print(
                f"{threads} threads, a step: ours {1e3 * own.wall:.1f} ms ({1e3 * own.cpu:.1f} CPU), OpenSplat"
                f" {1e3 * other.wall:.1f} ms ({1e3 * other.cpu:.1f} CPU): {ratios['wall']:.2f} times as long"
                f" ({ratios['cpu']:.2f} in CPU seconds)",
                flush=True,
            )
    if options.output:
        write_json(options.output, {"about": __doc__, "steps": options.steps, "size": options.size, "rows": rows})


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        sys.exit(f"error: {error}")
