"""Where the files that a capture's description names really lie."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from itertools import chain
from pathlib import Path, PureWindowsPath

from fvgen.checks import require
from fvgen.data.capture_notes import CaptureNotes

PHOTO_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".bmp", ".jp2", ".ppm", ".exr", ".dng"
}  # fmt: skip
_FACTORS = (2, 4, 8, 16)
PHOTO_FOLDERS = ("images", *(f"images_{factor}" for factor in _FACTORS))
"""Where data sets keep photos and their copies: as many times smaller as the folder's name says."""


class FilePlaces:
    """Finds named files, as written or under another spelling that only one file has.

    Descriptions are made on one machine and read on another: backslashes, letter case, Unicode forms, a suffix that is
    missing or another picture's, and the path of another machine before the capture's own are put up with, and noted.
    Files outside the capture, by link or absolute path, are found and noted.
    """

    def __init__(self, folder: Path, notes: CaptureNotes) -> None:
        self.folder = folder
        self._inside = folder.resolve()
        self._notes = notes
        self._listed: dict[Path, dict[str, list[Path]]] = {}
        self._stems: dict[Path, dict[str, list[Path]]] = {}

    def find(self, name: str, what: str) -> Path:
        """The file that ``name`` means.

        Args:
            name: path in the capture, or an absolute one.
            what: how an error calls it.

        Raises:
            InputError: no file, or several, could be meant.
        """
        found = self._as_written(Path(name))
        if not found:
            found = self._respelled(name)
            for path in found[:1]:
                self._notes.found_as(name, path.relative_to(self.folder))
        require(len(found) > 0, what, "be an existing file", self.folder / name, "Put the file there.")
        meant = " or ".join(path.name for path in found)
        require(len(found) == 1, what, "be one file", f"{name}, which may be {meant}", "Give its name as it is.")
        if not found[0].resolve().is_relative_to(self._inside):
            self._notes.outside(found[0].resolve())
        return found[0]

    def find_photo(self, name: str) -> Path:
        """The photo that ``name`` means, or a smaller copy of it (``images_4/a.png`` for ``images/a.png``).

        Raises:
            InputError: as `find`.
        """
        places = copies(Path(name))
        copy = next((place for place in places if self._as_written(place)), None)
        copy = copy or next((place for place in places if self._respelled(str(place))), None)
        return self.find(name if copy is None else str(copy), f"photo {name}")

    def holds(self, name: str) -> bool:
        """Whether a file is there that ``name`` may mean."""
        return bool(self._as_written(Path(name)) or self._respelled(name))

    def _as_written(self, place: Path) -> list[Path]:
        """The one file at ``place``, or at ``place.png`` where there is no suffix, for Blender leaves that one out."""
        paths = [self.folder / place] + ([self.folder / f"{place}.png"] if not place.suffix else [])
        try:
            return [path for path in paths if path.is_file()][:1]
        except (OSError, ValueError):  # a name that no file can have
            return []

    def _respelled(self, name: str) -> list[Path]:
        """Files of another spelling; those of an absolute path by as much of its end as the capture has."""
        windows = PureWindowsPath(name)  # takes both kinds of slash
        parts = windows.parts[1:] if windows.anchor else windows.parts
        for start in range(len(parts) if windows.anchor else 1):
            found = self.alike(*parts[start:])
            if found:
                return found
        return []

    def alike(self, *parts: str) -> list[Path]:
        """Files whose path in the capture differs from ``parts`` in spelling alone; where there is none, pictures that
        have a suffix more, then those that have another suffix of pictures."""
        if not parts:
            return []
        *folders, name = parts
        there = self.folders_alike(*folders)
        same = [path for folder in there for path in self._listing(folder).get(_key(name), ()) if path.is_file()]
        if same:
            return same
        stems = [name, *([Path(name).stem] if Path(name).suffix.lower() in PHOTO_SUFFIXES else [])]
        for stem in map(_key, stems):
            pictures = [p for folder in there for p in self._pictures(folder).get(stem, ()) if p.is_file()]
            if pictures:
                return pictures
        return []

    def folders_alike(self, *parts: str) -> list[Path]:
        """Folders whose path in the capture differs from ``parts`` in spelling alone."""
        folders = [self.folder]
        for part in parts:
            alike = [path for folder in folders for path in self._listing(folder).get(_key(part), ())]
            folders = [path for path in alike if path.is_dir()]
        return folders

    def _listing(self, folder: Path) -> dict[str, list[Path]]:
        """What a folder holds, by name without its spelling."""
        if folder not in self._listed:
            listing = defaultdict(list)
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                listing[_key(path.name)].append(path)
            self._listed[folder] = dict(listing)
        return self._listed[folder]

    def _pictures(self, folder: Path) -> dict[str, list[Path]]:
        """Pictures in a folder, by name without spelling and suffix."""
        if folder not in self._stems:
            stems = defaultdict(list)
            for path in chain.from_iterable(self._listing(folder).values()):
                if path.suffix.lower() in PHOTO_SUFFIXES:
                    stems[_key(path.stem)].append(path)
            self._stems[folder] = dict(stems)
        return self._stems[folder]


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def copies(path: Path) -> list[Path]:
    """Where a photo may lie, in itself or as a copy of another size: the named place first, then ``images/a.png``,
    ``images_2/a.png``, ``images_4/a.png``, ... for a path through any of these folders."""
    places = [path]
    for i, part in enumerate(path.parts):
        if part in PHOTO_FOLDERS:
            places += [Path(*path.parts[:i], name, *path.parts[i + 1 :]) for name in PHOTO_FOLDERS]
    return list(dict.fromkeys(places))
