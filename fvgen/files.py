"""Files and folders that are there whole or not at all.

Everything is written under a temporary name beside its own and renamed. A kill at any moment leaves what was there;
what a killed process left half written is removed the next time the same file is written.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fvgen.checks import InputError, complaint

UNFINISHED = ".unfinished"
"""End of the name of a file or folder that is still being written."""

_OLD = "-old"
_BLOCK = 1 << 22
_numbers = itertools.count()


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a temporary path to write to, which takes ``path``'s place afterwards.

    Args:
        path: the file; its folder is made.
        durable: wait until the disk has it (fsync), so that a power cut does not lose it either.

    Raises:
        OSError: the folder cannot be written or is full. After this or any other error ``path`` is as it was.
    """
    unfinished = _temporary(path)
    try:
        yield unfinished
        if durable:
            _sync(unfinished)
        unfinished.replace(path)
        if durable:
            _sync(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give an empty temporary folder to write into, which takes ``path``'s place afterwards.

    Args:
        path: the folder; an older one there is replaced.
        durable: wait until the disk has all of its files (fsync).

    Raises:
        OSError: the place cannot be written or is full. After this or any other error ``path`` is as it was.
    """
    unfinished = _temporary(path)
    try:
        unfinished.mkdir()
        yield unfinished
        if durable:
            for part in [*unfinished.rglob("*"), unfinished]:
                _sync(part)
        _replace_folder(unfinished, path)
        if durable:
            _sync(path.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


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
        # shutil.Error carries one complaint per file: the first says it.
        found = error.args[0][0][2] if isinstance(error, shutil.Error) else error
        cause = " ".join(str(found).split())
        raise InputError(
            complaint(name, "be writable, with room on its disk", f"{place} ({cause})", next_step)
        ) from error


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that no other process or thread uses; what dead processes left under such names goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-\d+({_OLD})?{re.escape(UNFINISHED)}")
    for left in path.parent.iterdir():
        match = name.fullmatch(left.name)
        if not match or _is_running(int(match[1])):
            continue
        if match[2] and not path.exists():  # killed while the new folder took the old one's place
            left.rename(path)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}{UNFINISHED}")


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _replace_folder(new: Path, path: Path) -> None:
    """A folder cannot be renamed onto one that is not empty: the older one steps aside first, and goes last."""
    old = new.with_name(new.name.removesuffix(UNFINISHED) + _OLD + UNFINISHED)
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
