"""Placed photos as a capture that Nerfstudio and its relatives read: transforms.json, images, sparse points."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fvgen.checks import require
from fvgen.data.capture import POSES_FILE
from fvgen.data.photos import is_portable
from fvgen.files import disk_errors, whole_folder, write_json
from fvgen.geometry.points import write_ply
from fvgen.poses.placement import Placement
from fvgen.poses.sensor_frame import SENSOR_WIDTH, SensorFrame
from fvgen.poses.train_points import triangulate_seen
from fvgen.poses.video import write_contact_sheet
from fvgen.types import PointCloud

CONTACT_SHEET = "contact_sheet.jpg"
_HOLD_OUT_FROM = 6
"""Photos from which on every `_EVERY`-th is held out by default."""
_EVERY = 6
_JPEG_QUALITY = 97
"""JPEG quality of photos that must be turned or converted."""


def held_out(placed: Sequence[int], every: int | None) -> list[int]:
    """The placed photos that no splat trains on.

    Args:
        placed: photos with poses, in order.
        every: each so manyth is held out, 0 for none; by default none of up to 5 photos, else each sixth.

    Raises:
        InputError: fewer than two photos are left to train on.
    """
    if every is None:
        every = _EVERY if len(placed) >= _HOLD_OUT_FROM else 0
    test = list(placed[every - 1 :: every]) if every else []
    require(
        len(placed) - len(test) >= 2,
        "--hold-out",
        "leave at least 2 photos to train on",
        f"{len(placed) - len(test)} of {len(placed)}",
        "Hold fewer photos out, or none: --hold-out 0.",
    )
    return test


def write_capture(
    placement: Placement,
    target: Path,
    test: Sequence[int] = (),
    *,
    notes: Sequence[str] = (),
    recipe: Mapping[str, Any] | None = None,
    contact_sheet: bool = False,
) -> tuple[str, ...]:
    """Write the capture, whole or not at all.

    Args:
        placement: photos with poses.
        target: folder to make; an older one there is replaced.
        test: the placed photos that no splat trains on, see `held_out`.
        notes: on the photos, to keep after those of the placement.
        recipe: what the capture was made of, to keep beside it.
        contact_sheet: whether a picture of all photos is added (a video's frames are new to their owner).

    Returns:
        all notes.

    Raises:
        InputError: the folder cannot be written.
    """
    notes = (*placement.notes, *_split_note(placement, test), *notes)
    free_space = "Free some space or choose another folder."
    with disk_errors("the posed capture", target, free_space), whole_folder(target) as folder:
        (folder / "images").mkdir()
        names = _store_photos(placement, folder)
        train = [i for i in placement.model.placed if i not in test]
        write_ply(folder / "sparse_pc.ply", _cloud(placement, train))
        frames = [_frame(placement, i, names[i]) for i in placement.model.placed]
        splits = {"train": train, **({"val": test, "test": test} if test else {})}
        write_json(
            folder / "transforms.json",
            {
                "camera_model": "OPENCV",
                "frames": frames,
                "ply_file_path": "sparse_pc.ply",
                **{f"{split}_filenames": [names[i] for i in chosen] for split, chosen in splits.items()},
            },
        )
        if contact_sheet:
            photos = {folder / names[i]: i in test for i in placement.model.placed}
            write_contact_sheet(photos, folder / CONTACT_SHEET)
        report = {"notes": notes, "recipe": recipe, **_report(placement, names, test)}
        write_json(folder / POSES_FILE, report)
    return notes


def _split_note(placement: Placement, test: Sequence[int]) -> tuple[str, ...]:
    """What is held out, if anything is."""
    if not test:
        return ()
    names = ", ".join(placement.matches.photos[i].name for i in test)
    return (f"Held out of training, {len(test)} of {len(placement.model.placed)} placed photos: {names}.",)


def _store_photos(placement: Placement, folder: Path) -> dict[int, str]:
    """Copy the placed photos; their names in the capture."""
    names: dict[int, str] = {}
    for i in placement.model.placed:
        photo = placement.matches.photos[i]
        as_is = is_portable(photo.file, photo.size)
        stem, suffix = Path(photo.name).stem, photo.file.suffix.lower() if as_is else ".jpg"
        name, number = f"images/{stem}{suffix}", 2
        while name in names.values():  # photos of two folders may have one name
            name, number = f"images/{stem}_{number}{suffix}", number + 1
        names[i] = name
        if as_is:
            shutil.copyfile(photo.file, folder / name)
        else:
            Image.fromarray(photo.pixels()).save(folder / name, quality=_JPEG_QUALITY, subsampling=0)
    return names


def _frame(placement: Placement, photo: int, name: str) -> dict[str, Any]:
    size = placement.matches.photos[photo].size
    frame = SensorFrame(*size)
    pose = frame.upright_pose(placement.model.c2w[photo])
    pose[:3, 1:3] *= -1  # OpenGL axes, as Nerfstudio has them
    if placement.known is not None:
        camera = placement.known.of_photo(size)
        fx, fy, cx, cy = (float(camera.K[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
        k1, k2, p1, p2 = camera.distortion
    else:
        lens = placement.model.lenses[photo]
        fx = fy = lens.focal / frame.scale
        cx, cy, k1, k2, p1, p2 = size[0] / 2, size[1] / 2, lens.k1, 0.0, 0.0, 0.0
    return {
        "file_path": name,
        "w": size[0], "h": size[1], "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
        "k1": k1, "k2": k2, "p1": p1, "p2": p2,
        "transform_matrix": pose.tolist(),
    }  # fmt: skip


def _cloud(placement: Placement, train: Sequence[int]) -> PointCloud:
    """Points that at least two training photos see, their place and colour from these photos alone."""
    xyz, views = triangulate_seen(placement, train)
    rgb = np.zeros((len(xyz), 3))
    for point, seen in enumerate(views):
        rgb[point] = np.mean([placement.matches.looks[i].colours[keypoint] for i, keypoint in seen], axis=0)
    return PointCloud(torch.from_numpy(xyz), torch.from_numpy(rgb / 255), torch.ones(len(xyz)))


def _report(placement: Placement, names: dict[int, str], test: Sequence[int]) -> dict[str, Any]:
    photos = placement.matches.photos
    return {
        "photos": [
            {
                "photo": verdict.name,
                "file_path": names.get(i),
                "placed": verdict.placed,
                "reason": verdict.reason,
                "agreement": verdict.agreement,
                "held_out": i in test,
            }
            for i, verdict in enumerate(placement.verdicts)
        ],
        "reprojection_error_pixels": placement.model.error * max(photos[placement.model.placed[0]].size) / SENSOR_WIDTH,
        "verified_matches": {
            f"{photos[i].name} {photos[j].name}": len(p.inliers) for (i, j), p in placement.matches.pairs.items()
        },
    }
