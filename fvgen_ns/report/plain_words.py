"""Notes of a run for people who do not know its parts."""

from __future__ import annotations

import re

_WORDS = {
    r"Trials \(AVGE on photos left out, lower is better\): (.+)\. Chosen: (.+)\.": (
        r"Several ways were tried on photos that were left out, and \2 was used. Mean error, lower is better: \1."
    ),
}
"""Pattern of a note -> what it means."""


def plain(note: str) -> str:
    """The note in plain words; one that needs none comes back as it is."""
    for pattern, words in _WORDS.items():
        if match := re.fullmatch(pattern, note):
            return match.expand(words)
    return note
