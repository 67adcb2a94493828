"""Changes to the transforms.json of a capture, and what reading it then says."""

from __future__ import annotations

import json

import numpy as np

from fvgen.data.read_capture import read_capture


def edit(capture, change):
    """Apply ``change(meta)`` to the capture's description."""
    file = capture / "transforms.json"
    meta = json.loads(file.read_text())
    change(meta)
    file.write_text(json.dumps(meta))


def first(capture):
    """The photo file of the first frame."""
    return capture / json.loads((capture / "transforms.json").read_text())["frames"][0]["file_path"]


def set_pose(meta, matrix, frame=0):
    meta["frames"][frame]["transform_matrix"] = np.asarray(matrix).tolist()


def pose(meta, frame=0):
    return np.array(meta["frames"][frame]["transform_matrix"])


def only_left_out(capture):
    """What the one note says that lists all that was left out, and the names of the photos that are left."""
    files = read_capture(capture)
    (note,) = (note for note in files.notes if note.startswith("Left out: "))
    return note, [frame.name for frame in files.frames]


def rename_first(capture, name):
    """Another spelling of the first frame's photo, in the list of training photos too."""

    def change(meta):
        old = meta["frames"][0]["file_path"]
        meta["frames"][0]["file_path"] = name
        meta["train_filenames"][meta["train_filenames"].index(old)] = name

    edit(capture, change)
