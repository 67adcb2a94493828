"""The cache of views: two runs at once, captures that were renamed, places that cannot be written."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fvgen.files import write_json
from fvgen.generation.views_folder import FORMAT
from fvgen_ns.views_cache import alone_in, claimed_folder, complete_folder

HOLD = """
import sys, time
from pathlib import Path
from fvgen_ns.views_cache import claimed_folder
with claimed_folder(Path(sys.argv[1])) as place:
    print(place, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other_run(tmp_path):
    """A process that has claimed ``tmp_path / "room-abc"`` and is doing nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "room-abc")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().strip() == str(tmp_path / "room-abc")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_works_beside_the_first_and_takes_over_when_it_is_gone(tmp_path, other_run):
    folder = tmp_path / "room-abc"
    with claimed_folder(folder) as place:
        assert place == tmp_path / "room-abc-2"
        with claimed_folder(folder) as third:
            assert third == tmp_path / "room-abc-3"
    other_run.kill()
    other_run.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the system lets go of the lock a moment later
        with alone_in(folder, "") as alone:
            if alone:
                break
    with claimed_folder(folder) as place:
        assert place == folder


def complete(folder, key: str):
    write_json(folder / "transforms.json", {"fvgen": {"key": key, "format": FORMAT}, "fvgen_checksums": {}})
    return folder


@pytest.mark.parametrize("name", ["room-abc", "room-abc-2", "old-name-abc"])
def test_views_are_found_under_any_name_of_their_capture(tmp_path, name):
    assert complete_folder(tmp_path / "room-abc", "abcdef") is None
    complete(tmp_path / "room-abc-3", "abcxyz")  # begins alike
    made = complete(tmp_path / name, "abcdef")
    assert complete_folder(tmp_path / "room-abc", "abcdef") == made
