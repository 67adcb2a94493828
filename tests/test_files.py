"""Files and folders are there whole or not at all: after errors, kills, and with several processes at once."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fvgen.files import (
    UNFINISHED,
    intact,
    read_json,
    sha256,
    store,
    whole_file,
    whole_folder,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put_folder(path: Path, text: str, *, durable: bool = False) -> None:
    with whole_folder(path, durable=durable) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "file").write_text(text)


def run_until_killed(code: str, *arguments: object) -> None:
    """Run Python code that ends by killing itself the hard way."""
    head = "import os, signal, sys\nfrom pathlib import Path\nfrom fvgen import files\npath = Path(sys.argv[1])\n"
    end = subprocess.run([sys.executable, "-c", head + code, *map(str, arguments)], capture_output=True, text=True)
    assert end.returncode == -signal.SIGKILL, end.stderr


KILL = "os.kill(os.getpid(), signal.SIGKILL)\n"


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_and_a_folder_are_written_and_replaced(tmp_path, durable):
    file, folder = tmp_path / "new" / "file", tmp_path / "new" / "folder"
    for text in ("first", "second"):
        with whole_file(file, durable=durable) as unfinished:
            unfinished.write_text(text)
            assert unfinished.name.endswith(UNFINISHED) and unfinished.name.startswith(".")
        put_folder(folder, text, durable=durable)
        assert file.read_text() == text and (folder / "part" / "file").read_text() == text
    assert names(tmp_path / "new") == ["file", "folder"]


def test_durable_waits_for_content_and_name_and_only_then_drops_the_older_one(tmp_path, monkeypatch):
    put_folder(tmp_path / "folder", "old")
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        older = [p for p in tmp_path.iterdir() if "-old" in p.name]
        assert bool(older) == (synced[-1] == tmp_path)

    monkeypatch.setattr(os, "fsync", fsync)
    put_folder(tmp_path / "folder", "new", durable=True)
    assert [path.name for path in synced[:2]] == ["part", "file"] and synced[-1] == tmp_path and len(synced) == 4
    put_folder(tmp_path / "folder", "newer")
    assert len(synced) == 4


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt(), ZeroDivisionError()])
def test_after_an_error_everything_is_as_it_was(tmp_path, error):
    for path in (tmp_path / "file", tmp_path / "folder", tmp_path / "other"):
        if path.name == "folder":
            put_folder(path, "old")
        if path.name == "file":
            store(path, b"old")
    with pytest.raises(type(error)), whole_file(tmp_path / "file") as unfinished:
        unfinished.write_text("half")
        raise error
    with pytest.raises(type(error)), whole_folder(tmp_path / "folder") as unfinished:
        (unfinished / "half").write_text("half")
        raise error
    with pytest.raises(type(error)), whole_folder(tmp_path / "other"):
        raise error
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old" and (tmp_path / "folder" / "part" / "file").read_text() == "old"


def test_a_folder_that_cannot_take_its_place_leaves_the_older_one(tmp_path, monkeypatch):
    put_folder(tmp_path / "folder", "old")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(UNFINISHED) and "-old" not in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        put_folder(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"] and (tmp_path / "folder" / "part" / "file").read_text() == "old"


def test_neither_takes_the_place_of_the_other_kind(tmp_path):
    (tmp_path / "file").write_text("kept")
    put_folder(tmp_path / "folder", "kept")
    with pytest.raises(NotADirectoryError):
        put_folder(tmp_path / "file", "new")
    with pytest.raises(IsADirectoryError):
        store(tmp_path / "folder", b"new")
    assert (tmp_path / "file").read_text() == "kept" and (tmp_path / "folder" / "part" / "file").read_text() == "kept"
    assert names(tmp_path) == ["file", "folder"]


def test_links_are_followed(tmp_path):
    disk = tmp_path / "disk"
    put_folder(disk / "folder", "old")
    store(disk / "file", b"old")
    (tmp_path / "folder").symlink_to(disk / "folder")
    (tmp_path / "file").symlink_to(disk / "file")
    put_folder(tmp_path / "folder", "new")
    store(tmp_path / "file", b"new")
    assert (tmp_path / "folder").is_symlink() and (disk / "folder" / "part" / "file").read_text() == "new"
    assert (tmp_path / "file").is_symlink() and (disk / "file").read_text() == "new"
    assert names(tmp_path) == ["disk", "file", "folder"] and names(disk) == ["file", "folder"]


def test_a_device_is_written_to_and_stays_one():
    ours, theirs = os.openpty()
    device = Path(os.ttyname(theirs))
    with whole_file(device) as path:
        path.write_text("text")
    assert os.read(ours, 10) == b"text" and device.is_char_device()


def test_a_killed_file_is_as_it_was_and_leaves_nothing_after_the_next_write(tmp_path):
    path = tmp_path / "file"
    store(path, b"old")
    run_until_killed("with files.whole_file(path) as new:\n    new.write_text('half')\n    " + KILL, path)
    assert path.read_bytes() == b"old" and len(names(tmp_path)) == 2
    store(tmp_path / "another", b"")  # no business of its
    assert len(names(tmp_path)) == 3
    store(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["another", "file"]


def test_a_killed_folder_is_as_it_was_and_leaves_nothing_after_the_next_write(tmp_path):
    path = tmp_path / "folder"
    put_folder(path, "old")
    code = "with files.whole_folder(path) as new:\n    (new / 'half').write_text('half')\n    " + KILL
    run_until_killed(code, path)
    assert names(path) == ["part"] and len(names(tmp_path)) == 2
    put_folder(path, "new")
    assert names(tmp_path) == ["folder"] and (path / "part" / "file").read_text() == "new"


def test_a_folder_killed_between_the_renames_comes_back(tmp_path):
    path = tmp_path / "folder"
    put_folder(path, "old")
    code = (
        "rename = Path.rename\n"
        "def kill_on_second(self, target):\n"
        f"    if target == path:\n        {KILL}"
        "    return rename(self, target)\n"
        "Path.rename = kill_on_second\n"
        "with files.whole_folder(path) as new:\n    (new / 'file').write_text('new')\n"
    )
    run_until_killed(code, path)
    assert not path.exists() and len(names(tmp_path)) == 2
    with pytest.raises(ZeroDivisionError), whole_folder(path):
        raise ZeroDivisionError  # even where that write fails
    assert names(tmp_path) == ["folder"] and (path / "part" / "file").read_text() == "old"


def test_leftovers_of_an_earlier_process_with_this_number_go(tmp_path):
    """In a container that is started again, processes have the numbers of before."""
    put_folder(tmp_path / "folder", "old")
    with whole_folder(tmp_path / "folder") as mine:
        host, process, run, number = re.fullmatch(
            rf"\.folder\.(.+)\.(\d+)\.(\w+)-(\d+){UNFINISHED}", mine.name
        ).groups()
        assert process == str(os.getpid())
        earlier = mine.with_name(f".folder.{host}.{process}.00000000-{number}{UNFINISHED}")
        earlier.mkdir()
        elsewhere = mine.with_name(f".folder.elsewhere.{process}.{run}-{number}{UNFINISHED}")
        elsewhere.mkdir()
        put_folder(tmp_path / "folder", "inner")
        assert mine.is_dir() and not earlier.exists()
        assert elsewhere.is_dir()  # a process of another machine may be alive
        yesterday = time.time() - 2 * 86400
        os.utime(elsewhere, (yesterday, yesterday))
        put_folder(tmp_path / "folder", "inner")
        assert mine.is_dir() and not elsewhere.exists()


def test_names_as_long_as_the_disk_takes_them(tmp_path):
    for name in ("x" * 255, "ü" * 127):
        store(tmp_path / name, b"content")
        put_folder(tmp_path / f"{name[:-1]}-", "content")
    assert len(names(tmp_path)) == 4 and not any(name.endswith(UNFINISHED) for name in names(tmp_path))


def _write_again_and_again(path: Path, mark: str, times: int) -> None:
    for _ in range(times):
        put_folder(path / "folder", mark * 1000)
        store(path / "file", mark.encode() * 1000)


def test_two_processes_at_once_leave_one_whole_result(tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_write_again_and_again, args=(tmp_path, mark, 100)) for mark in "ab"]
    for process in both:
        process.start()
    while any(process.is_alive() for process in both):
        if (tmp_path / "file").exists():
            assert (tmp_path / "file").read_text() in ("a" * 1000, "b" * 1000)
    for process in both:
        process.join()
        assert process.exitcode == 0
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "folder" / "part" / "file").read_text() in ("a" * 1000, "b" * 1000)


def test_store_copies_or_writes_and_tells_the_checksum(tmp_path):
    content = os.urandom(5 << 20)
    assert store(tmp_path / "a", content) == hashlib.sha256(content).hexdigest() == sha256(tmp_path / "a")
    assert store(tmp_path / "b", tmp_path / "a") == sha256(tmp_path / "a")
    assert store(tmp_path / "b", tmp_path / "b") == sha256(tmp_path / "a")  # onto itself
    assert (tmp_path / "b").read_bytes() == content
    sums = {name: sha256(tmp_path / name) for name in "ab"}
    assert intact(tmp_path, sums) and not intact(tmp_path, {**sums, "c": "0"})
    (tmp_path / "b").write_bytes(content[:-1])
    assert not intact(tmp_path, sums)


def test_json_round_trip_and_what_is_no_json(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"ä": [1, 2.5, None]}, durable=True)
    assert read_json(path) == {"ä": [1, 2.5, None]}
    with pytest.raises(TypeError):
        write_json(path, {"value": object()})
    assert read_json(path) == {"ä": [1, 2.5, None]} and names(tmp_path) == ["value.json"]
    for damaged in (b'{"a": 1', b"\xff\xfe", b"[1, 2]", b""):
        path.write_bytes(damaged)
        assert read_json(path) is None
    assert read_json(tmp_path / "none.json") is None
    assert json.dumps(read_json(tmp_path)) == "null"  # a folder
