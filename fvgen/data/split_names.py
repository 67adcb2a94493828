"""Which photos the names in a list of a split mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import PureWindowsPath

from fvgen.checks import require
from fvgen.data.capture_notes import CaptureNotes


class SplitNames:
    """Finds photos by the names that lists give, as written or in a spelling that one photo alone has.

    Lists are written by hand and by other tools than descriptions: slashes, letter case, the suffix and folders before
    the photo's own may differ.
    """

    def __init__(self, photos: Iterable[str]) -> None:
        """
        Args:
            photos: paths in the capture, as its description has them.
        """
        self._by_name: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
        for photo in dict.fromkeys(photos):
            parts = _parts(photo)
            for key in {parts[-1], _stem(parts[-1])} if parts else ():
                self._by_name[key].append((photo, parts))

    def find(self, names: Iterable[str], where: str, notes: CaptureNotes) -> list[str]:
        """The photos that ``names`` mean; empty names mean none, and what cannot be found is noted.

        Args:
            names: of the list.
            where: how notes call it.
            notes: gets the names that no photo, or several, have.
        """
        found = []
        for name in filter(None, map(str.strip, names)):
            with notes.leaving_out(f"{name} of {where}"):
                found.append(self._one(name, where))
        return found

    def _one(self, name: str, where: str) -> str:
        parts = _parts(name)
        photos = self._alike(parts) or self._alike((*parts[:-1], _stem(parts[-1]))) if parts else []
        exact = [photo for photo in photos if PureWindowsPath(photo) == PureWindowsPath(name)]
        photos = exact or photos
        require(len(photos) > 0, f"a name in {where}", "be that of a photo with a pose", name, "Mend the list.")
        meant = f"{name}, which may be {' or '.join(photos)}"
        require(len(photos) == 1, f"a name in {where}", "mean one photo", meant, "Give its folder and its suffix.")
        return photos[0]

    def _alike(self, parts: tuple[str, ...]) -> list[str]:
        """Photos whose path ends as ``parts`` do, as far as both go."""
        alike = []
        for photo, there in self._by_name.get(parts[-1], ()):
            folders = min(len(parts), len(there)) - 1
            if not folders or parts[-1 - folders : -1] == there[-1 - folders : -1]:
                alike.append(photo)
        return alike


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file name, without what spellings differ in; takes both kinds of slash."""
    path = PureWindowsPath(name)
    return tuple(part.casefold() for part in path.parts if part != path.anchor)


def _stem(name: str) -> str:
    return PureWindowsPath(name).stem
