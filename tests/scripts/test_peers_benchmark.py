"""benchmarks/peers.py with a program that stands for OpenSplat: 10 ms a step, one second to start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers.py"


def run(*options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_the_ratio_leaves_start_up_out(tiny_room, tmp_path):
    peer, output = tmp_path / "opensplat", tmp_path / "peers.json"
    peer.write_text(
        f"#!{sys.executable}\nimport sys, time\ntime.sleep(1 + 0.01 * int(sys.argv[sys.argv.index('-n') + 1]))\n"
    )
    peer.chmod(0o755)
    asked = ("--opensplat", peer, "--capture", tiny_room, "--output", output, "--steps", 30, "--size", 96)
    done = run(*asked, "--threads", 1)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(output.read_text())["rows"]
    assert row["opensplat"]["wall"] == pytest.approx(0.01, rel=0.3) and "times as long" in done.stdout


def test_a_program_that_is_not_there_is_refused(tiny_room, tmp_path):
    done = run("--opensplat", tmp_path / "none", "--capture", tiny_room)
    assert done.returncode == 1 and done.stderr.startswith("error: --opensplat must be a program")
