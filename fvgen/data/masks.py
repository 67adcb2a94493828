"""Masks: which of them belongs to a photo, and where it lets the photo count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from fvgen.checks import require
from fvgen.data.capture import CaptureFrame
from fvgen.data.capture_notes import CaptureNotes
from fvgen.data.file_places import PHOTO_FOLDERS, FilePlaces
from fvgen.data.image_files import load, open_image
from fvgen.data.photos import opaque_pixels, photo_size, read_photo, same_shape, to_be_turned
from fvgen.data.points_in_photos import pixels_at, points_in_photo
from fvgen.data.transparency import masked_by_transparency
from fvgen.types import PointCloud

_FOLDERS = ("masks", "mask", *(name.replace("images", "masks") for name in PHOTO_FOLDERS[1:]))
_LABELS = 32
"""Grey levels up to which values are numbers of things, each of which counts; JPEG may leave as much in black."""
_WHOLE = 252
"""Least value of 255 at which a mask shows the whole of a pixel; below, it is mixed with what the mask hides."""
_REDRAW = "Make the mask from the photo that the poses were made from, or take it out of the capture."


def find_masks(
    folder: Path, frames: Sequence[CaptureFrame], train: Sequence[int], notes: CaptureNotes
) -> list[CaptureFrame]:
    """The frames with the masks that lie beside the photos, where their description names none, or else with those
    that their transparency makes (`fvgen.data.transparency.masked_by_transparency`).

    As COLMAP and other tools lay them out: a folder ``masks`` in place of one in the photo's path, or at any level of
    it, with the photo's other folders kept; or else ``mask`` or ``masks_2`` there. A mask of ``a.jpg`` is called
    ``a.png``, ``a.jpg.png``, ``a_mask.png``, ``a.mask.png``, ``a.jpg.mask.png`` or ``mask_a.png``; but for the first
    two it may lie beside the photo.

    Args:
        folder: the capture.
        frames: its photos.
        train: indices of those that train.
        notes: receives how many photos have a mask, and the masks that belong to no photo.
    """
    inside = FilePlaces(folder, notes)
    found = [frame if frame.mask else replace(frame, mask=_mask_of(frame.photo, inside)) for frame in frames]
    found = masked_by_transparency(found, train, notes)
    masked = sum(frame.mask is not None for frame in found)
    if 0 < masked < len(found):
        notes.add(f"{masked} of {len(found)} photos have a mask; the others count whole.")
    if not masked:
        _note_unused(folder, notes)
    return found


def _note_unused(folder: Path, notes: CaptureNotes) -> None:
    """Say so where folders look like masks, and no photo has one."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and "mask" in path.name.lower()):
        if path.name.lower() not in _FOLDERS:
            notes.add(f"{path} is not used: masks lie in a folder called masks, white where the photo counts.")
        elif any(path.iterdir()):
            notes.add(f"No mask in {path} has the name and folders of a photo: all photos count whole.")


def _mask_of(photo: Path, inside: FilePlaces) -> Path | None:
    """The mask of a photo: by its path in the capture, then beside the file itself, which may lie elsewhere."""
    real = photo.resolve()
    beside = FilePlaces(real.parent.parent, CaptureNotes())
    for places, path in ((inside, photo), (beside, real)):
        if path.is_relative_to(places.folder):
            for parts in _mask_paths(path.relative_to(places.folder)):
                found = places.alike(*parts)
                if found:
                    return found[0]
    return None


def _mask_paths(photo: Path) -> Iterator[tuple[str, ...]]:
    """Where the mask of a photo may lie, most likely first; a suffix of its own may follow."""
    *folders, name = photo.parts
    stem = photo.stem
    names = (name, stem, f"{stem}_mask", f"{stem}.mask", f"{name}.mask", f"mask_{stem}")
    levels = range(len(folders), -1, -1)
    in_place_of_one = [
        (*folders[:level], masks, *folders[level + 1 :])
        for level in levels[1:]
        for masks in dict.fromkeys((folders[level].replace("images", "masks"), *_FOLDERS))
        if masks != folders[level]
    ]
    one_more = [(*folders[:level], masks, *folders[level:]) for masks in _FOLDERS for level in levels]
    for parts in (*in_place_of_one, *one_more):
        yield from ((*parts, one) for one in names)
    yield from ((*folders, one) for one in names[2:])  # beside the photo


def visible_points(points: PointCloud, frames: Sequence[CaptureFrame], notes: CaptureNotes) -> PointCloud | None:
    """The points without those that only ever fall on what masks hide: nothing would be trained there.

    Args:
        points: float64, in the frame of the cameras.
        frames: photos that train.
        notes: receives how many points are hidden.
    """
    if not any(frame.mask for frame in frames):
        return points
    photographed, shown = np.zeros(len(points), bool), np.zeros(len(points), bool)
    for frame in frames:
        index, places, _ = points_in_photo(frame, points.xyz.numpy())
        counts = True if frame.mask is None else pixels_at(frame_mask(frame, frame.size), places)
        photographed[index] = True
        shown[index] |= counts
    keep = shown | ~photographed
    if not keep.all():
        notes.add(f"{int((~keep).sum())} of {len(keep)} sparse points lie where masks hide the photos: not used.")
    return points[torch.from_numpy(keep)] if keep.any() else None


def frame_mask(frame: CaptureFrame, size: tuple[int, int]) -> np.ndarray:
    """Where a photo with a mask counts: as `read_mask`; where it is its own mask, its opaque pixels do.

    Args:
        frame: the photo.
        size: (width, height) to give it in.
    """
    assert frame.mask is not None
    if frame.mask != frame.photo:
        return read_mask(frame.mask, size, frame.size, exif_ignored=frame.exif_ignored)
    pixels = read_photo(frame.photo, frame.size, exif_ignored=frame.exif_ignored)
    return _resized(opaque_pixels(pixels), size)


def check_mask_size(path: Path, photo: tuple[int, int]) -> None:
    """Refuse a mask of another shape than its photo of (width, height); fewer or more pixels are fine.

    Raises:
        InputError: so it is, or the file is missing or no image.
    """
    size = photo_size(path, photo, what="mask")
    rule = f"have the shape of its photo ({photo[0]}x{photo[1]})"
    require(same_shape(size, photo), f"mask {path}", rule, f"{size[0]}x{size[1]}", _REDRAW)


def read_mask(
    path: Path, size: tuple[int, int], photo: tuple[int, int] | None = None, *, exif_ignored: bool = False
) -> np.ndarray:
    """Where a photo counts.

    A mask is white where it does: 255, 65535 or, from tools that write numbers, 1, or 1, 2, 3 of several things. Of a
    palette, every colour but black counts; of a picture with transparency, opaque pixels do.

    Args:
        path: any picture.
        size: (width, height) to give it in.
        photo: (width, height) of its photo, ``size`` by default.
        exif_ignored: as for `read_photo`: some tools copy the photo's EXIF orientation to the mask.

    Returns:
        [height, width] bool; a pixel that the mask covers in part does not count.

    Raises:
        InputError: missing, damaged or no image.
    """
    with open_image(path, "mask") as image:
        expected = photo or size  # in pixels of the mask, where it has the photo's shape as it is stored
        expected = image.size if same_shape(image.size, expected) else expected
        turned = to_be_turned(image, expected, exif_ignored)
        pixels = load(image, path, "mask")
        levels = _levels(ImageOps.exif_transpose(pixels) if turned else pixels)
        lossy = image.format in ("JPEG", "MPO", "WEBP")
    highest = float(levels.max())
    return _resized(levels > highest / 2 if highest > _LABELS else (levels > 0) & (not lossy), size)


def _resized(counts: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[H, W] bool at (width, height); a pixel that counts in part does not count."""
    within = (min(size[0], counts.shape[1]), min(size[1], counts.shape[0]))
    shrunk = cv2.resize(255 * counts.astype(np.uint8), within, interpolation=cv2.INTER_AREA) > _WHOLE
    return cv2.resize(shrunk.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0


def require_white(path: Path, mask: np.ndarray) -> None:
    """Refuse a mask that lets nothing count."""
    rule, next_step = "be white, or 1, where the photo counts", "Draw it anew, or leave the photo out."
    require(bool(mask.any()), f"mask {path}", rule, "a wholly black one", next_step)


def _levels(image: Image.Image) -> np.ndarray:
    """[H, W] brightness, or opacity where that is what differs."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < alpha.max():
            return alpha
        image = image.convert("RGB")
    if image.mode == "P":
        rgb = np.asarray(image.convert("RGB"))
        is_grey = bool((rgb == rgb[..., :1]).all())
        return rgb.max(axis=2) if is_grey else 255 * rgb.any(axis=2).astype(np.uint8)
    if image.mode in ("RGB", "CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(image.convert("RGB")).max(axis=2)
    return np.nan_to_num(np.asarray(image).astype(np.float64))
