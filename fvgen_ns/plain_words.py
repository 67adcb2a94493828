"""Notes of a run for people who do not know its parts."""

from __future__ import annotations

import re

_WORDS = (
    (r"Seeds in holes: as asked for\.", "Gaussians also start where no photo gives depth, as asked for."),
    (
        r"Seeds in holes: yes \(dB on left-out photos: (.+)\)\.",
        r"Gaussians also start where no photo gives depth: that made photos that were left out as a trial better"
        r" (by \1 dB).",
    ),
    (
        r"Seeds in holes: no \(dB on left-out photos: none could be tried\)\.",
        "Nothing starts where no photo gives depth: there are too few photos to try it out.",
    ),
    (
        r"Seeds in holes: no \(dB on left-out photos: (.+)\)\.",
        r"Nothing starts where no photo gives depth: that did not make photos that were left out as a trial better"
        r" (\1 dB).",
    ),
    (
        r"Trials \(AVGE on photos left out, lower is better\): (.+)\. Chosen: (.+)\.",
        r"Several ways were tried on photos that were left out, and \2 was used. Mean error, lower is better: \1.",
    ),
)
"""Pattern of a note -> what it means."""


def plain(note: str) -> str:
    """The note in plain words; one that needs none comes back as it is."""
    for pattern, words in _WORDS:
        if match := re.fullmatch(pattern, note):
            return match.expand(words)
    return note
