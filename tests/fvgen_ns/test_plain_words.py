"""Notes in plain words."""

import pytest

from fvgen_ns.plain_words import plain


@pytest.mark.parametrize(
    ("note", "words"),
    [
        ("Seeds in holes: yes (dB on left-out photos: +1.81, +0.52).", "better (by +1.81, +0.52 dB)."),
        ("Seeds in holes: no (dB on left-out photos: -0.10).", "did not make photos that were left out"),
        ("Seeds in holes: no (dB on left-out photos: none could be tried).", "too few photos to try it out."),
        (
            "Trials (AVGE on photos left out, lower is better): a 0.12, warp 0.11. Chosen: warp.",
            "warp was used.",
        ),
    ],
)
def test_what_only_developers_know_is_explained(note, words):
    assert words in plain(note)
    assert not any(word in plain(note) for word in ("dB on left-out", "AVGE", "Seeds in holes"))


def test_other_notes_stay():
    assert plain("2 of the 6 photos have a pose.") == "2 of the 6 photos have a pose."
