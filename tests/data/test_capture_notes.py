from fvgen.data.capture_notes import gathered


def test_what_several_steps_leave_out_stands_in_one_note():
    notes = ["Left out: a.png: it must be whole.", "Seeds: none.", "Left out: b.png: it must exist.", "Seeds: none."]
    joined = gathered(notes)
    assert joined == ["Left out: a.png: it must be whole. b.png: it must exist.", "Seeds: none."]
    assert gathered(["Seeds: none."]) == ["Seeds: none."]
