"""benchmarks/repair.py on a small capture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from nerfstudio_commands import run

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "repair.py"


@pytest.mark.slow
def test_the_same_run_with_and_without_repair(tiny_room, tmp_path):
    shutil.copytree(tiny_room, tmp_path / "captures" / "room")
    file = tmp_path / "figures.json"
    asked = ("--captures", tmp_path / "captures", "--output", file, "--generators", "points")
    done = run(SCRIPT, *asked, "--iterations", 20, "--size", 64, cwd=tmp_path)
    figures = json.loads(file.read_text())
    rows = figures["captures"]["room"]
    assert set(rows) == {"points", "points, repaired"} and figures["mean"] == rows
    assert rows["points"]["replaced"] == 0 < rows["points, repaired"]["replaced"]
    assert rows["points, repaired"]["agreement_after"] > rows["points, repaired"]["agreement_before"]
    assert "room, points, repaired: " in done.stdout and str(tmp_path) not in file.read_text()

    written = file.stat().st_mtime_ns
    run(SCRIPT, *asked, "--iterations", 20, "--size", 64, cwd=tmp_path)
    assert file.stat().st_mtime_ns == written  # what it holds is not measured again
    refused = run(SCRIPT, *asked, "--iterations", 30, "--size", 64, cwd=tmp_path, check=False)
    assert refused.returncode == 2 and "--output must be a new file or one of the same settings" in refused.stderr
