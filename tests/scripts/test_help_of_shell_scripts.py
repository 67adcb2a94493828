"""--help of the shell scripts explains and does nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", ["demo.sh", "test.sh", "train_tiny.sh", "install.sh"])
def test_help_explains_and_does_nothing(name, option, tmp_path):
    script = Path(shutil.copytree(SCRIPTS, tmp_path / "scripts")) / name
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        ["bash", script, option], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0 and done.stderr == ""
    assert f"Usage: bash scripts/{name}" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_help_of_the_demo_stands_anywhere_in_the_line(tmp_path):
    line = ["bash", SCRIPTS / "demo.sh", "--output", tmp_path / "out", "--help"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0 and "CAPTURE" in done.stdout and not (tmp_path / "out").exists()
