"""What a reader of captures left out, found elsewhere or assumed: sentences for the user."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fvgen.checks import InputError

_LEFT_OUT = "Left out: "
_MOST_NAMES = 50
"""A note names so many items; of the others it gives the number."""


class CaptureNotes:
    """Collects what a user should know of a capture that can be used all the same."""

    def __init__(self) -> None:
        self.left_out: dict[str, InputError] = {}
        """Item -> why it cannot be used."""
        self._found_as: list[str] = []
        self._outside: list[Path] = []
        self._others: list[str] = []

    @contextmanager
    def leaving_out(self, item: str) -> Iterator[None]:
        """Leave ``item`` out, and go on, where what is done within raises `InputError`."""
        try:
            yield
        except InputError as error:
            self.leave_out(item, error)

    def leave_out(self, item: str, why: InputError) -> None:
        """``item`` cannot be used."""
        self.left_out.setdefault(item, why)

    def reasons(self) -> str:
        """Why items were left out, with the next step: each kind of reason once, with the items that have it."""
        kinds: dict[str, list[str]] = {}
        for item, error in self.left_out.items():
            kinds.setdefault(error.rule.partition(" must ")[2], []).append(item)
        texts = [f"{_names(items)}: {self.left_out[items[0]]}" for items in kinds.values()]
        return f"{_LEFT_OUT}{' '.join(texts)}" if texts else ""

    def found_as(self, name: str, path: Path) -> None:
        """The file ``name`` was found under another spelling, as ``path`` in the capture."""
        self._found_as.append(f"{name} is {path}")

    def outside(self, path: Path) -> None:
        """A file lies outside the capture."""
        self._outside.append(path)

    def without_points(self, reason: str) -> None:
        """The capture has no sparse points that can be used."""
        self.add(f"The capture has no sparse points ({reason}): going on without them.")

    def add(self, sentence: str) -> None:
        """Any other note."""
        self._others.append(sentence)

    def sentences(self) -> tuple[str, ...]:
        """All notes: what was left out in one, then the others."""
        notes = [self.reasons()] if self.left_out else []
        if self._outside:
            files = list(dict.fromkeys(map(str, self._outside)))
            notes.append(f"Read from outside the capture: {_names(files)}.")
        if self._found_as:
            notes.append(f"Found under another spelling: {_names(list(dict.fromkeys(self._found_as)))}.")
        return tuple(map(_printable, dict.fromkeys(notes + self._others)))


def gathered(notes: Iterable[str]) -> list[str]:
    """Notes of several steps, each once: all that any step left out in one note, then the others."""
    once = list(dict.fromkeys(notes))
    left_out = [note.removeprefix(_LEFT_OUT) for note in once if note.startswith(_LEFT_OUT)]
    others = [note for note in once if not note.startswith(_LEFT_OUT)]
    return [_LEFT_OUT + " ".join(left_out), *others] if left_out else others


def _names(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _printable(text: str) -> str:
    """Names that are no UTF-8 with question marks."""
    return text.encode("utf-8", "replace").decode()
