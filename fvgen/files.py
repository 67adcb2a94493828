"""Files and folders that are there whole or not at all.

Everything is written under a temporary name beside its own and renamed. A kill at any moment loses nothing that was
there. What a killed process left is cleared away the next time the same path is written.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fvgen.checks import InputError, complaint

UNFINISHED = ".unfinished"
"""End of the name of a file or folder that is still being written."""

_OLD = "-old"
_BLOCK = 1 << 22
_LONGEST_NAME = 120
"""Bytes from which on a temporary name holds a hash of the name instead: file systems stop at 255."""
_ABANDONED = 86400.0
"""Seconds without a change after which another machine's unfinished work counts as left behind."""
_HOST = re.sub(r"[^A-Za-z0-9-]", "_", platform.node())[:64] or "host"
_RUN = secrets.token_hex(4)
"""Random, so that an earlier process with the same number is another one: containers number from 1 again."""
_numbers = itertools.count()


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to, which takes ``path``'s place afterwards.

    Args:
        path: the file; its folder is made. A link is followed, and stays. A device is written to, not replaced.
        durable: wait until the disk has it (fsync), so that a power cut does not lose it either.

    Raises:
        OSError: the folder cannot be written or is full. After this or any other error ``path`` is as it was.
    """
    path = path.resolve()
    if path.is_char_device():  # a rename would put a file in the place of /dev/null
        yield path
        return
    unfinished = _temporary(path)
    try:
        yield unfinished
        if durable:
            _sync(unfinished)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


@contextmanager
def whole_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder to write into, which takes ``path``'s place afterwards.

    A kill in the instant between the two renames leaves no folder; the older one comes back at the next write.

    Args:
        path: the folder; an older one there is replaced. A link is followed, and stays.
        durable: wait until the disk has all of its files (fsync).

    Raises:
        OSError: the place is a file, cannot be written or is full. After this or any other error ``path`` is as it was.
    """
    path = path.resolve()
    if path.is_file():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    unfinished = _temporary(path)
    old = unfinished.with_name(unfinished.name.removesuffix(UNFINISHED) + _OLD + UNFINISHED)
    try:
        unfinished.mkdir()
        yield unfinished
        if durable:
            for part in [*unfinished.rglob("*"), unfinished]:
                _sync(part)
        _replace_folder(path, unfinished, old)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if durable:
        _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def store(path: Path, content: bytes | Path, *, durable: bool = False) -> str:
    """Write bytes, or copy a file, whole or not at all; the SHA-256 of what was written.

    Raises:
        OSError: see `whole_file`.
    """
    with whole_file(path, durable=durable) as unfinished:
        if isinstance(content, Path):
            shutil.copyfile(content, unfinished)
        else:
            unfinished.write_bytes(content)
        return sha256(unfinished)


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Write ``value`` as indented JSON, whole or not at all.

    Raises:
        OSError: see `whole_file`.
    """
    with whole_file(path, durable=durable) as unfinished:
        unfinished.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None when it is missing or damaged, which both mean that the work was not finished."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sha256(path: Path) -> str:
    """SHA-256 of a file, read block by block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def intact(folder: Path, checksums: Mapping[str, str]) -> bool:
    """Whether every named file is there and is what was written."""
    return all((folder / name).is_file() and sha256(folder / name) == sum_ for name, sum_ in checksums.items())


@contextmanager
def disk_errors(name: str, place: Path, next_step: str) -> Iterator[None]:
    """Say in one line what keeps ``place`` from being written within.

    torch's and safetensors' writers raise errors of their own instead of `OSError` when a disk is full.

    Args:
        name: what the user calls it: an option, or the thing that is written.
        place: the file or folder.
        next_step: what to do; mentions the option that chooses another place.

    Raises:
        InputError: in place of what the disk or a writer raised.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        found: object = error
        if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
            found = error.args[0][0][2]  # one complaint for each file: the first says it
        cause = " ".join(str(found).split())
        raise InputError(
            complaint(name, "be writable, with room on its disk", f"{place} ({cause})", next_step)
        ) from error


def require_writable(name: str, folder: Path, next_step: str) -> None:
    """Refuse a folder that cannot be made or written, before any work.

    Args:
        name: what the user calls it.
        folder: that will be made when missing.
        next_step: what to do; mentions the option that chooses another place.

    Raises:
        InputError: so it is.
    """
    with disk_errors(name, folder, next_step):  # tried: os.access is wrong about network disks, and for root
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        tempfile.TemporaryDirectory(dir=existing).cleanup()


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that nobody else uses; what dead processes left under such names is cleared away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    pattern = re.compile(rf"\.{re.escape(name)}\.([\w-]+)\.(\d+)\.(\w+)-\d+({_OLD})?{re.escape(UNFINISHED)}")
    with os.scandir(path.parent) as there:  # twice as fast as Path.iterdir in a folder of thousands
        matches = [match for entry in there if entry.name[0] == "." and (match := pattern.fullmatch(entry.name))]
    for match in matches:
        left = path.with_name(match[0])
        if _is_left_behind(left, host=match[1], process=int(match[2]), run=match[3]):
            _clear(left, path, stepped_aside=bool(match[4]))
    return path.with_name(f".{name}.{_HOST}.{os.getpid()}.{_RUN}-{next(_numbers)}{UNFINISHED}")


def _is_left_behind(left: Path, host: str, process: int, run: str) -> bool:
    if host != _HOST:  # on a shared disk: whether its process runs cannot be seen here
        with suppress(FileNotFoundError):
            return time.time() - left.stat().st_mtime > _ABANDONED
        return False
    if process == os.getpid():
        return run != _RUN
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False


def _clear(left: Path, path: Path, stepped_aside: bool) -> None:
    """Another process may be clearing the same away: whoever comes second finds nothing, which is as good."""
    if stepped_aside and not path.exists():  # killed while the new folder took the old one's place
        with suppress(OSError):
            left.rename(path)
    elif left.is_dir():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _replace_folder(path: Path, new: Path, old: Path) -> None:
    """A folder cannot be renamed onto one that is not empty: the older one steps aside to ``old`` first."""
    while True:
        try:
            with suppress(FileNotFoundError):
                path.rename(old)
            new.rename(path)
            return
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                shutil.rmtree(old, ignore_errors=True)  # another process has put its own there meanwhile
                continue
            with suppress(OSError):
                old.rename(path)
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
