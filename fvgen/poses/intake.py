"""The photos that a folder, a zip archive or a list of files holds, and what was left out."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from PIL import Image

from fvgen.checks import InputError, complaint, require
from fvgen.data.file_places import PHOTO_FOLDERS
from fvgen.data.photos import photo_size, read_photo
from fvgen.files import sha256
from fvgen.poses.exif import camera_facts

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".bmp", ".jp2", ".ppm"}
VIDEO_SUFFIXES = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mts"}
RAW_SUFFIXES = {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"}
MOST_PHOTOS = 200
"""Beyond this, matching on a processor takes hours."""
_MOST_ARCHIVE = 20 * 2**30
"""Bytes that an archive may hold unpacked."""
REFUSAL_PICTURE = "_refused.png"
"""End of the name of a picture that says why photos could not be placed."""
_OTHER_WORK = ("transforms.json", "config.yml")
"""A folder below the photos' that holds one of these is a capture or a run: copies and renders are no photos."""
_NO_PHOTOS = ("depth", "mask", *PHOTO_FOLDERS[1:])
"""Names of folders begin so that hold depth maps, masks or smaller copies."""


@dataclass(frozen=True)
class Photo:
    """One of the user's photos."""

    name: str
    """What the user knows it by."""
    file: Path
    size: tuple[int, int]
    """(width, height) in pixels, standing upright."""
    focal: float | None
    """Focal length by its metadata in longer sides of the photo; None where it says nothing."""
    camera: Hashable
    """Equal for photos of one camera: same size either way round, same metadata."""

    def pixels(self) -> np.ndarray:
        """[H, W, 3] uint8, standing upright; transparent parts are black.

        Raises:
            InputError: the file is damaged.
        """
        read = read_photo(self.file)
        return read if read.shape[2] == 3 else read[..., :3] * (read[..., 3:] > 0)


@dataclass(frozen=True)
class Intake:
    """Photos in the order of their names, and what was left out."""

    photos: tuple[Photo, ...]
    notes: tuple[str, ...]


def find_media(source: Path, scratch: Path) -> tuple[list[Path], list[Path], Path, list[str]]:
    """Photo files and video files of a folder or archive, sorted by name.

    Args:
        source: folder, zip archive, or one photo or video.
        scratch: folder for what an archive holds.

    Returns:
        photos, videos, the folder that their names start from, and notes on what was left out.

    Raises:
        InputError: there is no such place, or it holds neither photos nor videos.
    """
    require(source.exists(), "PHOTOS", "be an existing folder, zip archive or video", source, "Check the path.")
    if source.is_dir():
        root, (files, passed_over) = source, _files_below(source)
    elif source.suffix.lower() == ".zip" or zipfile.is_zipfile(source):
        _unpack(source, scratch)
        root, (files, passed_over) = scratch, _files_below(scratch)
    else:
        root, files, passed_over = source.parent, [source], []
    seen = [path for path in files if not _is_hidden(path.relative_to(root))]
    photos = [path for path in seen if path.suffix.lower() in PHOTO_SUFFIXES]
    videos = [path for path in seen if path.suffix.lower() in VIDEO_SUFFIXES]
    others = [path for path in seen if path not in {*photos, *videos}]
    raw = [path for path in others if path.suffix.lower() in RAW_SUFFIXES]
    packed = [path for path in others if path.suffix.lower() == ".zip"]
    what_to_do = "Give a folder or zip archive of photos, or a video."
    if raw or packed:
        what_to_do = "Export raw files as JPEG." if raw else f"Give the archive itself, {packed[0].name}, or unpack it."
    require(
        len(photos) + len(videos) > 0,
        str(source),
        "hold photos or a video",
        f"{len(raw)} raw files and {len(others) - len(raw)} others" if others else "nothing",
        what_to_do,
    )
    notes = []
    if passed_over:
        notes.append(f"No photos were looked for in {', '.join(passed_over)}: captures, runs, masks, depth or copies.")
    if others:
        names = ", ".join(str(path.relative_to(root)) for path in others[:5])
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        notes.append(f"Neither photos nor videos, and not used: {names}{more}.")
    return photos, videos, root, notes


def holds_media(source: Path) -> bool:
    """Whether a folder, archive or file is, or holds, something that a camera has written; a damaged archive may."""
    if source.is_dir():
        names = [str(path.relative_to(source)) for path in _files_below(source)[0]]
    elif source.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(source) as zipped:
                names = zipped.namelist()
        except (zipfile.BadZipFile, OSError):
            return True
    else:
        names = [source.name]
    suffixes = PHOTO_SUFFIXES | VIDEO_SUFFIXES | RAW_SUFFIXES | {".zip"}
    return any(Path(name).suffix.lower() in suffixes and not _is_hidden(PurePosixPath(name)) for name in names)


def digest(source: Path) -> str:
    """SHA-256 of a file, or of the names and bytes of the files in a folder: equal for equal photos."""
    if source.is_file():
        return sha256(source)
    whole = hashlib.sha256()
    for path in _files_below(source)[0]:
        content = sha256(path) if os.access(path, os.R_OK) else "-"
        whole.update(os.fsencode(path.relative_to(source)) + b"\0" + content.encode())
    return whole.hexdigest()


def _files_below(root: Path) -> tuple[list[Path], list[str]]:
    """The files in a folder, sorted, but for pictures of refusals; and the folders in it that cannot hold photos."""
    files: list[Path] = []
    passed_over: list[str] = []
    for folder, below, names in os.walk(root):
        here = Path(folder)
        if here != root and (here.name.lower().startswith(_NO_PHOTOS) or any(name in names for name in _OTHER_WORK)):
            below.clear()
            passed_over.append(str(here.relative_to(root)))
        else:
            files += [here / name for name in names if not name.endswith(REFUSAL_PICTURE)]
    return sorted(path for path in files if path.is_file()), sorted(passed_over)


def read_intake(files: list[Path], root: Path, notes: list[str]) -> Intake:
    """Sizes and metadata of photo files; those that cannot be read are left out with a note.

    Raises:
        InputError: fewer than two photos can be read, or there are too many.
    """
    require(len(files) <= MOST_PHOTOS, "PHOTOS", f"hold at most {MOST_PHOTOS} photos", len(files), "Give every second.")
    photos, notes = [], list(notes)
    for file in files:
        name = str(PurePosixPath(file.relative_to(root)))
        try:
            photos.append(_photo(file, name))
        except InputError as error:
            notes.append(f"{name} was left out: {error}")
    if len(photos) < 2:
        found = f"{len(photos)} of {len(files)} files that can be read" if len(files) > 1 else f"{len(photos)}"
        why = f" {notes[-1]}" if len(files) > len(photos) else ""
        raise InputError(
            complaint(
                "PHOTOS", "hold at least 2 photos", found,
                f"Take more photos of the same thing, each a step further to the side.{why}",
            )
        )  # fmt: skip
    return Intake(tuple(photos), tuple(notes))


def _photo(file: Path, name: str) -> Photo:
    size = photo_size(file)
    require(
        min(size) >= 64,
        f"photo {name}",
        "have at least 64 pixels on each side",
        f"{size[0]}x{size[1]}",
        "Use it whole.",
    )
    with Image.open(file) as image:
        facts = camera_facts(image)
    return Photo(name, file, size, facts.focal, (tuple(sorted(size)), facts.camera))


def _is_hidden(name: PurePath) -> bool:
    """Whether a path is one of those that systems leave behind: hidden files, macOS' copies in archives."""
    return any(part.startswith((".", "__MACOSX", "Thumbs.db")) for part in name.parts)


def _unpack(archive: Path, scratch: Path) -> None:
    """Write the files of an archive under ``scratch``; names cannot lead out of it."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = [entry for entry in zipped.infolist() if not entry.is_dir()]
            size = sum(entry.file_size for entry in entries)
            require(size <= _MOST_ARCHIVE, str(archive), "hold at most 20 GB", f"{size / 2**30:.1f} GB", "Split it.")
            for entry in entries:
                zipped.extract(entry, scratch)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        text = complaint(str(archive), "be a whole zip archive without a password", f"'{error}'", "Pack it again.")
        raise InputError(text) from error
