"""Scenes of public data sets, in the folders as they are published, made into captures that follow a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.file_places import PHOTO_SUFFIXES
from fvgen.data.photos import photo_size, read_photo
from fvgen.data.read_capture import read_capture
from fvgen.evaluation.first_points import match_points
from fvgen.evaluation.protocol import Protocol, Split
from fvgen.files import whole_folder, write_json
from fvgen.geometry.points import write_ply

_LLFF_POSES = "poses_bounds.npy"


@dataclass(frozen=True)
class PreparedScene:
    """A capture on disk that follows a protocol."""

    folder: Path
    split: Split
    names: tuple[str, ...]
    """All photos of the scene, in order; the split's numbers are places in it."""
    first_points: int
    """Points that splats start from, matched between the training photos."""


def find_scenes(protocol: Protocol, folder: Path, only: Sequence[str] = ()) -> list[Path]:
    """The scenes of a data set's folder; a folder that is a scene itself is the only one.

    Raises:
        InputError: there are none of the protocol's, or not those that are asked for.
    """
    require(folder.is_dir(), "data", "be the data set's folder", folder, protocol.get)
    if protocol.scenes is not None and folder.name not in protocol.scenes:
        there = [folder / name for name in protocol.scenes if (folder / name).is_dir()]
        wanted = f"hold scenes of {protocol.name}: {', '.join(protocol.scenes)}"
        require(bool(there), "data", wanted, f"none in {folder}", f"Get them: {protocol.get}")
    elif protocol.scenes is None and not _is_scene(folder):
        there = [path for path in sorted(folder.iterdir()) if path.is_dir() and _is_scene(path)]
        require(bool(there), "data", "be a capture or a folder of captures", folder, protocol.get)
    else:
        there = [folder]
    names = [path.name for path in there]
    unknown = [name for name in only if name not in names]
    require(not unknown, "scenes", f"be out of {', '.join(names)}", ", ".join(unknown), "Check the names.")
    return [path for path in there if not only or path.name in only]


def prepare_scene(protocol: Protocol, scene: Path, target: Path, views: int | None = None) -> PreparedScene:
    """Write the scene as a capture: the chosen photos at the protocol's size, their poses, its split, first points.

    A capture that follows its own split keeps its own sparse points; all others get points that are matched between
    the training photos alone, so that no test photo helps.

    Args:
        protocol: which photos, which size.
        scene: folder as its authors publish it.
        target: folder to write; an older one there is replaced.
        views: training photos, where the protocol knows several numbers.

    Raises:
        InputError: the folder is not of the protocol's layout, or its photos do not fit the rule.
    """
    frames, own, points = _read(protocol, scene)
    names = [Path(frame.name).name for frame in frames]
    split = protocol.choose(scene.name, names, views, own)
    chosen = [*split.train, *split.test]
    with whole_folder(target) as folder:
        (folder / "images").mkdir()
        written = [_write_photo(frames[i], i, protocol, folder) for i in chosen]
        if protocol.split["rule"] != "own":
            train = written[: len(split.train)]
            points = match_points([_pixels(f) for f in train], [f.c2w for f in train], [f.K for f in train])
        if points is not None and len(points):
            write_ply(folder / "sparse_pc.ply", points)
        place = {i: f"images/{frame.photo.name}" for i, frame in zip(chosen, written, strict=True)}
        described = [_described(frame) for frame in written]
        test = [place[i] for i in split.test]
        splits = {"train_filenames": [place[i] for i in split.train], "val_filenames": test, "test_filenames": test}
        start = {"ply_file_path": "sparse_pc.ply"} if points is not None and len(points) else {}
        about = {"protocol": protocol.name, "scene": scene.name, "views": len(split.train), "note": split.note}
        meta = {"camera_model": "OPENCV", "orientation_override": "none", "frames": described}
        write_json(folder / "transforms.json", {**meta, **start, **splits, "about": about})
    return PreparedScene(target, split, tuple(names), 0 if points is None else len(points))


def _is_scene(folder: Path) -> bool:
    from fvgen.data.read_capture import is_capture

    return is_capture(folder) or (folder / _LLFF_POSES).is_file()


def _read(protocol: Protocol, scene: Path):
    """The scene's photos by name, its own split as places among them, and its points."""
    if protocol.layout == "llff" and (scene / _LLFF_POSES).is_file():
        return _read_llff(scene, protocol.shrink), None, None
    files = read_capture(scene, decode=False)
    order = sorted(range(len(files.frames)), key=lambda i: files.frames[i].name)
    place = {old: new for new, old in enumerate(order)}
    train, test = (tuple(place[i] for i in files.split(name)) for name in ("train", "test"))
    return [files.frames[i] for i in order], Split(train, test), files.points


def _read_llff(scene: Path, shrink: int) -> list[CaptureFrame]:
    """Photos and poses of an LLFF scene; axes of its poses are (down, right, backwards) (Mildenhall et al. 2019)."""
    folders = [scene / f"images_{shrink}", scene / "images"]
    folder = next((f for f in folders if f.is_dir()), None)
    require(folder is not None, f"scene {scene.name}", f"hold images_{shrink} or images", "neither", "Fetch it again.")
    assert folder is not None
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    rows = np.load(scene / _LLFF_POSES)
    step = "The scene's folder must be as its authors publish it."
    require(rows.ndim == 2 and rows.shape[1] == 17, _LLFF_POSES, "have rows of 17 numbers", rows.shape, step)
    require(len(photos) == len(rows), _LLFF_POSES, f"have a row for each of {len(photos)} photos", len(rows), step)
    frames = []
    for path, row in zip(photos, rows, strict=True):
        matrix = row[:15].reshape(3, 5)
        full_height, full_width, focal = matrix[:, 4]
        c2w = np.eye(4)
        c2w[:3] = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2], matrix[:, 3]], axis=1)
        width, height = photo_size(path)
        K = np.array(
            [[focal * width / full_width, 0, width / 2], [0, focal * height / full_height, height / 2], [0, 0, 1]]
        )
        frames.append(CaptureFrame(path.name, path, c2w, K, (width, height)))
    return frames


def _write_photo(frame: CaptureFrame, number: int, protocol: Protocol, folder: Path) -> CaptureFrame:
    """The photo at the protocol's size, its intrinsics scaled per axis; the frame that describes it."""
    smaller = frame.photo.parent.with_name(f"{frame.photo.parent.name}_{protocol.shrink}") / frame.photo.name
    at_size = frame.photo.parent.name == f"images_{protocol.shrink}"  # the data set's own copies at that size
    source = smaller if smaller.is_file() else frame.photo
    pixels = read_photo(source, None if smaller.is_file() else frame.size, exif_ignored=frame.exif_ignored)
    if protocol.background is not None and pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        behind = np.array(ImageColor.getrgb(protocol.background), dtype=np.float32)
        pixels = (pixels[..., :3] * alpha + behind * (1 - alpha)).round().astype(np.uint8)
    if not at_size and not smaller.is_file() and protocol.shrink > 1:
        width, height = (round(side / protocol.shrink) for side in frame.size)
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    height, width = pixels.shape[:2]
    K = np.diag([width / frame.size[0], height / frame.size[1], 1.0]) @ frame.K
    path = folder / "images" / f"{number:04d}_{frame.photo.stem}.png"
    Image.fromarray(pixels).save(path, "PNG")
    return replace(frame, photo=path, K=K, size=(width, height))


def _pixels(frame: CaptureFrame) -> np.ndarray:
    return read_photo(frame.photo, frame.size)[..., :3]


def _described(frame: CaptureFrame) -> dict[str, object]:
    """An entry of transforms.json: OpenGL axes."""
    width, height = frame.size
    K, k = frame.K, frame.distortion
    return {
        "file_path": f"images/{frame.photo.name}",
        "transform_matrix": (frame.c2w @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist(),
        "w": width,
        "h": height,
        "fl_x": K[0, 0],
        "fl_y": K[1, 1],
        "cx": K[0, 2],
        "cy": K[1, 2],
        **dict(zip(("k1", "k2", "p1", "p2", "k3"), k, strict=True)),
    }
