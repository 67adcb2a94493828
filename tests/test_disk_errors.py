"""Disks that are full and places that cannot be written are explained in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fvgen.checks import InputError
from fvgen.files import disk_errors, require_writable

needs_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, Linux's full disk")


@needs_full_disk
def test_a_full_disk_is_explained_whichever_writer_met_it(tmp_path):
    place, full = tmp_path / "output", Path("/dev/full")
    writers = {
        "python": lambda: full.write_bytes(b"x" * (1 << 20)),
        "torch": lambda: torch.save({"a": torch.zeros(1 << 16)}, full),
        "safetensors": lambda: safetensors.torch.save_file({"a": torch.zeros(4)}, tmp_path / "none" / "file"),
        "shutil": lambda: shutil.copytree(_with_unreadable_part(tmp_path), tmp_path / "copy"),
    }
    for name, write in writers.items():
        with pytest.raises(InputError) as found, disk_errors("--output", place, "Choose another --output."):
            write()
        text = str(found.value)
        start = f"--output must be writable, with room on its disk, got {place} ("
        assert text.startswith(start) and text.endswith("). Choose another --output."), name
        assert "\n" not in text and len(text) > len(start) + 40 and found.value.__cause__ is not None, name


def _with_unreadable_part(folder: Path) -> Path:
    source = folder / "source"
    source.mkdir()
    (source / "dangling").symlink_to(folder / "nothing")
    return source


def test_a_place_that_cannot_be_written_is_refused_with_the_option(tmp_path):
    require_writable("views folder", tmp_path / "new" / "folder", "")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"views folder must be writable.*Choose another: --cache-dir"):
        require_writable("views folder", tmp_path / "file" / "cache", "Choose another: --cache-dir FOLDER.")
    with pytest.raises(InputError, match=r"views folder must be writable.*/proc/cache \(.*Choose another: --cache-dir"):
        require_writable("views folder", Path("/proc/cache"), "Choose another: --cache-dir FOLDER.")  # even for root


def test_other_errors_pass_through(tmp_path):
    for error in (InputError("bad input"), KeyError("a"), ZeroDivisionError()):
        with pytest.raises(type(error)) as found, disk_errors("--output", tmp_path, "Choose another."):
            raise error
        assert found.value is error
