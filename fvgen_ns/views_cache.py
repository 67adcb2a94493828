"""The folders where finished views are kept, each made by one run at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from fvgen.data.capture import CaptureFrame
from fvgen.files import disk_errors
from fvgen.generation.views_folder import is_complete

IF_FULL = "Free some space, or choose another folder: --pipeline.datamanager.densify.cache-dir FOLDER."
"""What to do about a cache that cannot be written."""


def cache_folder(root: Path | None, photo: CaptureFrame, key: str) -> Path:
    """``NAME-KEY`` in the chosen folder, or in ``fvgen`` of the user's cache (``XDG_CACHE_HOME``, ``~/.cache``).

    The capture itself may be read-only, and ns-eval must find the views from another working folder.

    Args:
        root: the chosen folder, or None.
        photo: of the capture, whose folder gives the name.
        key: of what is kept.
    """
    if root is None:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fvgen"
    first = photo.photo.resolve()
    capture = first.parent.parent if first.parent.name.startswith("images") else first.parent
    return root / f"{capture.name}-{key[:12]}"


def complete_folder(folder: Path, key: str) -> Path | None:
    """Where the views of a key are, whole; None where they are not.

    That is ``folder`` or one beside it: another run may have made them, or the capture had another name then.
    """
    _, _, short = folder.name.rpartition("-")
    places = (folder, *sorted(folder.parent.glob(f"*-{short}*")))
    return next((place for place in places if is_complete(place, key)), None)


@contextmanager
def claimed_folder(folder: Path) -> Iterator[Path]:
    """``folder``, or one beside it while another run is writing there: two runs at once never meet in their files.

    Raises:
        InputError: it cannot be made.
    """
    for number in count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with alone_in(place, IF_FULL) as alone:
            if alone:
                yield place
                return


@contextmanager
def alone_in(folder: Path, if_full: str) -> Iterator[bool]:
    """Whether no other process writes this folder of views: a lock, which ends with the process that holds it.

    Args:
        folder: made when missing.
        if_full: what to do if that fails; names the option for the folder.

    Raises:
        InputError: the folder cannot be made.
    """
    part = folder / "frames"
    with disk_errors("views folder", folder, if_full):
        part.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDONLY)
    try:
        yield _lock(handle)
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: files are still written whole
        return True
    return True
