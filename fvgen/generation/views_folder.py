"""The folder of photos and generated views: a Nerfstudio dataset, and the plugin's cache.

::

    transforms.json      written last: a folder with it is complete
    images/              photos byte for byte, generated views as PNG
    depth/               16-bit PNG, 0 where unknown; unit in transforms.json
    confidence/ covered/ 8-bit PNG per generated view: confidence, and where the point cloud was seen
    masks/               8-bit PNG, 255 where a photo counts; for every frame as soon as one photo has a mask
    dense.ply            the fused cloud
    background.ply       points for what the cloud leaves empty, when there are some; background_guess.ply has
                         those whose depth no other photo confirms
    frames/              one JSON per finished frame with its checksums: what a killed run goes on from

Poses, depth and points are in the capture's own frame, whatever frame they were made in. Photos that the capture holds
back may follow the views: they are in ``test_filenames``, and not trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.files import disk_errors, intact, read_json, sha256, store
from fvgen.generation.stored_photo import StoredPhoto
from fvgen.geometry.points import write_ply
from fvgen.geometry.similarity import Similarity
from fvgen.pictures import png
from fvgen.types import Cameras, PointCloud

FORMAT = 4
"""Version of the folder's layout; folders of another are made anew."""
BACKGROUND, GUESSES = "background.ply", "background_guess.ply"
"""Points for what the cloud leaves empty: confirmed ones, and guesses."""
DEPTH_STEPS = 65535
OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenCV camera axes to Nerfstudio's OpenGL ones, and back."""
_PARTS = ("frames", "images", "depth", "confidence", "covered", "masks")


class ViewsWriter:
    """Writes the folder frame by frame, so that a killed run loses no finished frame."""

    def __init__(
        self,
        folder: Path,
        key: str,
        similarity: Similarity,
        depth_unit: float,
        provenance: dict[str, Any],
        *,
        if_full: str = "Free some space or choose another folder.",
    ) -> None:
        """
        Args:
            folder: made when missing; frames of another ``key`` in it are thrown away.
            key: hash of all that the views depend on.
            similarity: from the capture's frame to the one that cameras and points are given in.
            depth_unit: capture units of one step of the depth files.
            provenance: JSON values common to all frames: version, generator, seed, settings.
            if_full: what to do about a disk that is full or cannot be written; names the option for the folder.

        Raises:
            InputError: the folder holds something else, or cannot be written.
        """
        self.folder, self.key = Path(folder), key
        self._similarity, self._depth_unit, self._provenance = similarity, depth_unit, provenance
        self._if_full = if_full
        refuse_foreign(self.folder)
        self._guarded(self._prepare)

    def _prepare(self) -> None:
        for name in _PARTS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "transforms.json").unlink(missing_ok=True)
        for record in (self.folder / "frames").glob("*.json"):
            entry = read_json(record)
            if entry is None or entry.get("key") != self.key:
                self._discard(record, entry)

    def _discard(self, record: Path, entry: dict[str, Any] | None) -> None:
        """Remove a frame's record, then its files."""
        record.unlink()
        for name in (entry or {}).get("checksums", ()):
            (self.folder / name).unlink(missing_ok=True)

    def _guarded(self, work: Callable[[], None]) -> None:
        with disk_errors("views folder", self.folder, f"{self._if_full} Finished views are kept."):
            work()

    def has(self, index: int) -> bool:
        """Whether the frame is finished, of this key, and its files are what was written."""
        entry = read_json(self._record(index))
        return entry is not None and entry.get("key") == self.key and intact(self.folder, entry["checksums"])

    def _record(self, index: int) -> Path:
        return self.folder / "frames" / f"{index:05d}.json"

    def put_photo(self, index: int, photo: StoredPhoto, depth: Tensor | None, *, held_out: bool = False) -> None:
        """Store one of the user's photos.

        Args:
            index: place in the folder.
            photo: what to store.
            depth: [H, W] at the working size; left out where lens or crop make it another picture than the photo.
            held_out: whether the photo is to be compared with, and not trained on.
        """
        name = f"images/{index:05d}_{photo.file_name}"
        files: dict[str, Path | bytes] = {name: photo.content}
        files[f"depth/{index:05d}.png"] = self._depth_png(photo.depth_or_blank(depth))
        entry = {**_intrinsics(photo.K, photo.size), **photo.lens, "file_path": name}
        if photo.mask is not None:
            entry["mask_path"] = f"masks/{index:05d}.png"
            files[entry["mask_path"]] = png(255 * photo.mask.astype(np.uint8))
        entry["fvgen"] = {"photo": True, "source": photo.name, "held_out": held_out}
        self._put(index, files, entry, photo.c2w)

    def put_view(
        self,
        index: int,
        camera: Cameras,
        rgb: Tensor,
        depth: Tensor,
        confidence: Tensor,
        covered: Tensor,
        info: dict[str, Any],
    ) -> None:
        """Store a generated view, without loss but for 8 bits a channel.

        Args:
            index: place in the folder.
            camera: a batch of one, in the working frame.
            rgb: [3, H, W] in [0, 1].
            depth: [H, W] in working units, 0 where unknown.
            confidence: [H, W] in [0, 1].
            covered: [H, W] bool.
            info: provenance of this frame.
        """
        stem = f"{index:05d}.png"
        files: dict[str, Path | bytes] = {
            f"images/{stem}": _png(rgb.permute(1, 2, 0)),
            f"depth/{stem}": self._depth_png(depth),
            f"confidence/{stem}": _png(confidence),
            f"covered/{stem}": _png(covered.float()),
        }
        entry = _intrinsics(camera.K[0].cpu().double().numpy(), (camera.width, camera.height))
        entry |= {"file_path": f"images/{stem}"}
        entry["confidence_file_path"], entry["covered_file_path"] = f"confidence/{stem}", f"covered/{stem}"
        entry["fvgen"] = {"photo": False, **info}
        self._put(index, files, entry, camera.c2w[0].cpu().double().numpy())

    def _put(self, index: int, files: dict[str, Path | bytes], entry: dict[str, Any], c2w: np.ndarray) -> None:
        entry["transform_matrix"] = (self._similarity.pose_to_capture(c2w) @ OPENGL_AXES).tolist()
        entry["depth_file_path"] = f"depth/{index:05d}.png"

        def work() -> None:
            # Without a record the frame counts as unfinished while its files change.
            self._record(index).unlink(missing_ok=True)
            checksums = {name: store(self.folder / name, content) for name, content in files.items()}
            record = {"key": self.key, "checksums": checksums, "frame": entry}
            store(self._record(index), json.dumps(record).encode())

        self._guarded(work)

    def _depth_png(self, depth: Tensor) -> bytes:
        steps = (depth.cpu().double() / self._similarity.scale / self._depth_unit).round()
        steps = torch.where(steps <= DEPTH_STEPS, steps, 0.0)  # too far to store: unknown
        return png(steps.numpy().astype(np.uint16))

    def finish(
        self, count: int, points: PointCloud, notes: Sequence[str] = (), background: PointCloud | None = None
    ) -> None:
        """Write the clouds and ``transforms.json`` over frames 0 .. count-1.

        Args:
            count: of frames.
            points: the fused cloud, which other tools start from, too.
            notes: sentences to keep.
            background: points for what that leaves empty; confidence 0 marks a guess.

        Raises:
            InputError: a frame is missing, or the folder cannot be written.
        """
        records = [read_json(self._record(i)) for i in range(count)]
        missing = [i for i, record in enumerate(records) if record is None]
        require(
            not missing,
            f"frames of {self.folder}",
            "all be stored before the folder is finished",
            f"none for {missing[:8]}",
            "Store them with put_photo or put_view.",
        )
        done = [record for record in records if record is not None]
        clouds: dict[str, PointCloud | None] = {"dense.ply": points, BACKGROUND: None, GUESSES: None}
        if background is not None:
            is_guess = background.confidence <= 0
            clouds |= {BACKGROUND: background[~is_guess], GUESSES: background[is_guess]}
        self._guarded(lambda: self._finish(done, clouds, list(notes)))

    def _finish(self, records: list[dict[str, Any]], clouds: dict[str, PointCloud | None], notes: list[str]) -> None:
        frames = [record["frame"] for record in records]
        checksums = {name: found for record in records for name, found in record["checksums"].items()}
        for record in (self.folder / "frames").glob("*.json"):
            if int(record.stem) >= len(records):
                self._discard(record, read_json(record))
        for name, points in clouds.items():
            (self.folder / name).unlink(missing_ok=True)
            if points is not None and len(points):
                moved = PointCloud(self._similarity.points_to_capture(points.xyz), points.rgb.cpu(), points.confidence)
                write_ply(self.folder / name, moved)
                checksums[name] = sha256(self.folder / name)
        checksums |= self._complete_masks(frames)
        photos = [frame["file_path"] for frame in frames if frame["fvgen"]["photo"]]
        held_out = [frame["file_path"] for frame in frames if frame["fvgen"].get("held_out")]
        similarity = {"transform": self._similarity.transform.tolist(), "scale": self._similarity.scale}
        about = {"format": FORMAT, "key": self.key, "notes": notes, "working_from_capture": similarity}
        meta = {
            "camera_model": "OPENCV" if any("k1" in frame for frame in frames) else "PINHOLE",
            "depth_unit_scale_factor": self._depth_unit,
            **({"ply_file_path": "dense.ply"} if "dense.ply" in checksums else {}),
            "frames": frames,
            "train_filenames": [frame["file_path"] for frame in frames if frame["file_path"] not in held_out],
            "val_filenames": held_out or photos,
            "test_filenames": held_out or photos,
            "fvgen": about | self._provenance,
            "fvgen_checksums": checksums,
        }
        store(self.folder / "transforms.json", json.dumps(meta, indent=1).encode())

    def _complete_masks(self, frames: list[dict[str, Any]]) -> dict[str, str]:
        """Give all frames a mask if any has one, as Nerfstudio wants it: a white one. The new files' checksums."""
        checksums = {}
        if any("mask_path" in frame for frame in frames):
            for frame in frames:
                if "mask_path" not in frame:
                    frame["mask_path"] = f"masks/white_{frame['w']}x{frame['h']}.png"
                    white = png(np.full((frame["h"], frame["w"]), 255, np.uint8))
                    checksums[frame["mask_path"]] = store(self.folder / frame["mask_path"], white)
        return checksums


def depth_unit_of(depths: Tensor, scale: float = 1.0) -> float:
    """Unit of the depth files of a scene, in the capture's frame.

    Generated views may look past the farthest point; four times that still has 14 bits left for the scene.

    Args:
        depths: [V, H, W] of the photos, 0 where unknown.
        scale: of the frame that they are in, in the capture's.
    """
    return 4 * float(depths.max()) / scale / DEPTH_STEPS or 1e-3


def is_complete(folder: Path, key: str) -> bool:
    """Whether the folder holds all views of this key and every file is what was written."""
    meta = read_json(Path(folder) / "transforms.json")
    if meta is None or meta.get("fvgen", {}).get("key") != key or meta["fvgen"].get("format") != FORMAT:
        return False
    return "fvgen_checksums" in meta and intact(Path(folder), meta["fvgen_checksums"])


def refuse_foreign(folder: Path) -> None:
    """Never write over a folder that holds anything but an earlier run's views.

    Raises:
        InputError: it does.
    """
    require(not folder.is_file(), "views folder", "be a folder", folder, "Choose another name.")
    meta = read_json(folder / "transforms.json")
    ours = "fvgen" in meta if meta is not None else (folder / "frames").is_dir()
    require(
        ours or not folder.is_dir() or not any(folder.iterdir()),
        "views folder",
        "be new, empty or hold an earlier run's views",
        folder,
        "Choose another folder: nothing in this one is touched.",
    )


def _intrinsics(K: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "w": size[0],
        "h": size[1],
        "fl_x": float(K[0, 0]),
        "fl_y": float(K[1, 1]),
        "cx": float(K[0, 2]),
        "cy": float(K[1, 2]),
    }


def _png(image: Tensor) -> bytes:
    """[H, W] or [H, W, 3] in [0, 1] with 8 bits a channel."""
    return png((255 * image.cpu().float().clamp(0, 1)).round().to(torch.uint8).numpy())
