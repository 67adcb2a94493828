"""Notes in plain words."""

from fvgen_ns.report.plain_words import plain


def test_what_only_developers_know_is_explained():
    note = "Trials (AVGE on photos left out, lower is better): points 0.1200, warp 0.1100. Chosen: warp."
    assert plain(note) == (
        "Several ways were tried on photos that were left out, and warp was used. Mean error, lower is better:"
        " points 0.1200, warp 0.1100."
    )


def test_other_notes_stay():
    assert plain("2 of the 6 photos have a pose.") == "2 of the 6 photos have a pose."
