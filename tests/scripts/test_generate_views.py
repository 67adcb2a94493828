"""scripts/generate_views.py as a user runs it: settings that cannot work are refused before anything is written."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/generate_views.py"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--geometry", "none"), "--geometry must give points to make views from, got none"),
        (("--frames-per-clip", "1"), "--frames-per-clip must be at least 2"),
        (("--working-size", "0"), "--working-size must be at least 16 pixels"),
    ],
    ids=["no geometry", "one frame", "no pixels"],
)
def test_bad_settings_are_refused_before_anything_is_written(tiny_room, tmp_path, options, message):
    command = [sys.executable, str(SCRIPT), "--data", str(tiny_room), "--output", str(tmp_path / "views"), *options]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=200, check=False)
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "views").exists()


def test_finished_views_of_other_settings_are_not_thrown_away(tiny_room, tmp_path):
    views = tmp_path / "views"
    command = [
        sys.executable,
        str(SCRIPT),
        "--data",
        str(tiny_room),
        "--output",
        str(views),
        "--geometry",
        "capture-depth",
    ]
    command += ["--generator", "points", "--frames-per-clip", "3"]

    def run(*options):
        return subprocess.run(
            [*command, *options], cwd=tmp_path, text=True, capture_output=True, timeout=200, check=False
        )

    assert run().returncode == 0
    before = {path: path.read_bytes() for path in views.rglob("*") if path.is_file()}
    refused = run("--seed", "1")
    assert refused.returncode == 2 and "--output must be a new folder or hold views of this capture" in refused.stderr
    assert {path: path.read_bytes() for path in views.rglob("*") if path.is_file()} == before
