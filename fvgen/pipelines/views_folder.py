"""The folder of photos and generated views: a Nerfstudio dataset, and the plugin's cache.

::

    transforms.json      written last: a folder with it is complete
    images/              photos byte for byte, generated views as PNG
    depth/               16-bit PNG, 0 where unknown; unit in transforms.json
    confidence/ covered/ 8-bit PNG per generated view: trust, and where the point cloud was seen
    dense.ply            the fused cloud
    frames/              one JSON per finished frame with its checksums: what a killed run goes on from

Poses, depth and points are in the capture's own frame, whatever frame they were made in.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.geometry.points import write_ply
from fvgen.types import Cameras, PointCloud

FORMAT = 1
DEPTH_STEPS = 65535
_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Similarity:
    """``x_working = scale * (rotation @ x_capture + translation)``: how a dataparser moved the capture."""

    transform: np.ndarray
    """[3, 4] rotation and translation"""
    scale: float

    def pose_to_capture(self, c2w: np.ndarray) -> np.ndarray:
        """[4, 4] camera-to-world from the working frame to the capture's."""
        rotation, translation = self.transform[:, :3], self.transform[:, 3]
        out = np.eye(4)
        out[:3, :3] = rotation.T @ c2w[:3, :3]
        out[:3, 3] = rotation.T @ (c2w[:3, 3] / self.scale - translation)
        return out

    def pose_to_working(self, c2w: np.ndarray) -> np.ndarray:
        """[4, 4] camera-to-world from the capture's frame to the working one."""
        rotation, translation = self.transform[:, :3], self.transform[:, 3]
        out = np.eye(4)
        out[:3, :3] = rotation @ c2w[:3, :3]
        out[:3, 3] = self.scale * (rotation @ c2w[:3, 3] + translation)
        return out

    def points_to_working(self, xyz: Tensor) -> Tensor:
        """[P, 3] points from the capture's frame to the working one."""
        rotation, translation = self._tensors()
        return (self.scale * (xyz.double().cpu() @ rotation.T + translation)).float()

    def _tensors(self) -> tuple[Tensor, Tensor]:
        transform = torch.from_numpy(self.transform).double()
        return transform[:, :3], transform[:, 3]

    def points_to_capture(self, xyz: Tensor) -> Tensor:
        """[P, 3] points from the working frame to the capture's."""
        rotation, translation = self._tensors()
        return ((xyz.double().cpu() / self.scale - translation) @ rotation).float()


class ViewsWriter:
    """Writes the folder frame by frame, so that a killed run loses no finished frame."""

    def __init__(
        self, folder: Path, key: str, similarity: Similarity, depth_unit: float, provenance: dict[str, Any]
    ) -> None:
        """
        Args:
            folder: made when missing; frames of another ``key`` in it are thrown away.
            key: hash of all that the views depend on.
            similarity: from the capture's frame to the one that cameras and points are given in.
            depth_unit: capture units of one step of the depth files.
            provenance: JSON values common to all frames: generator, seed, settings.
        """
        self.folder, self.key = folder, key
        self._similarity, self._depth_unit, self._provenance = similarity, depth_unit, provenance
        self._guarded(self._prepare)

    def _prepare(self) -> None:
        (self.folder / "frames").mkdir(parents=True, exist_ok=True)
        (self.folder / "transforms.json").unlink(missing_ok=True)
        for name in ("images", "depth", "confidence", "covered"):
            (self.folder / name).mkdir(exist_ok=True)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            text = complaint(
                "views folder", "be writable, with room on its disk", f"{self.folder} ({error})",
                "Free some space or choose another folder; finished views are kept.",
            )  # fmt: skip
            raise InputError(text) from error

    def has(self, index: int) -> bool:
        """Whether the frame is finished, of this key, and its files are what was written."""
        entry = _read_json(self.folder / "frames" / f"{index:05d}.json")
        return entry is not None and entry["key"] == self.key and _intact(self.folder, entry["checksums"])

    def put_photo(
        self, index: int, photo: Path, c2w: np.ndarray, K: np.ndarray, size: tuple[int, int],
        distortion: tuple[float, ...], depth: Tensor,
    ) -> None:  # fmt: skip
        """Store one of the user's photos: its file as it is, and [H, W] depth at the working size."""
        name = f"{index:05d}_{photo.stem}{photo.suffix.lower()}"
        keys = dict(zip(("k1", "k2", "p1", "p2", "k3"), distortion, strict=True)) if any(distortion) else {}
        files = {f"images/{name}": photo, f"depth/{index:05d}.png": self._depth_png(depth)}
        entry = {**_intrinsics(K, size), **keys, "file_path": f"images/{name}"}
        entry["fvgen"] = {"photo": True, "source": photo.name}
        self._put(index, files, entry, c2w)

    def put_view(
        self, index: int, camera: Cameras, rgb: Tensor, depth: Tensor, confidence: Tensor, covered: Tensor,
        info: dict[str, Any],
    ) -> None:  # fmt: skip
        """Store a generated view.

        Args:
            index: place in the folder.
            camera: a batch of one.
            rgb: [3, H, W].
            depth: [H, W].
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

    def _put(self, index: int, files: dict[str, Any], entry: dict[str, Any], c2w: np.ndarray) -> None:
        entry["transform_matrix"] = (self._similarity.pose_to_capture(c2w) @ _AXES).tolist()
        entry["depth_file_path"] = f"depth/{index:05d}.png"

        def work() -> None:
            checksums = {name: _store(self.folder / name, content) for name, content in files.items()}
            record = {"key": self.key, "checksums": checksums, "frame": entry}
            _store(self.folder / "frames" / f"{index:05d}.json", json.dumps(record).encode())

        self._guarded(work)

    def _depth_png(self, depth: Tensor) -> bytes:
        steps = (depth.cpu().double() / self._similarity.scale / self._depth_unit).round()
        steps = torch.where(steps <= DEPTH_STEPS, steps, torch.zeros_like(steps))  # too far to store: unknown
        buffer = io.BytesIO()
        Image.fromarray(steps.numpy().astype(np.uint16)).save(buffer, "PNG")
        return buffer.getvalue()

    def finish(self, count: int, points: PointCloud, notes: list[str]) -> None:
        """Write the cloud and ``transforms.json`` over frames 0 .. count-1, which must all be there."""
        records = [_read_json(self.folder / "frames" / f"{i:05d}.json") for i in range(count)]
        frames = [record["frame"] for record in records if record is not None]
        photos = [frame["file_path"] for frame in frames if frame["fvgen"]["photo"]]

        def work() -> None:
            if len(points):
                moved = PointCloud(self._similarity.points_to_capture(points.xyz), points.rgb.cpu(), points.confidence)
                write_ply(self.folder / "dense.ply", moved)
            checksums = {name: c for record in records if record is not None for name, c in record["checksums"].items()}
            if len(points):
                checksums["dense.ply"] = _checksum((self.folder / "dense.ply").read_bytes())
            meta = {
                "camera_model": "OPENCV" if any("k1" in frame for frame in frames) else "PINHOLE",
                "depth_unit_scale_factor": self._depth_unit,
                **({"ply_file_path": "dense.ply"} if len(points) else {}),
                "frames": frames,
                "train_filenames": [frame["file_path"] for frame in frames],
                "val_filenames": photos,
                "test_filenames": photos,
                "fvgen": {"format": FORMAT, "key": self.key, "notes": notes, **self._provenance},
                "fvgen_checksums": checksums,
            }
            _store(self.folder / "transforms.json", json.dumps(meta, indent=1).encode())

        self._guarded(work)


def is_complete(folder: Path, key: str) -> bool:
    """Whether the folder holds all views of this key and every file is what was written."""
    meta = _read_json(folder / "transforms.json")
    if meta is None or meta.get("fvgen", {}).get("key") != key or meta["fvgen"].get("format") != FORMAT:
        return False
    return _intact(folder, meta["fvgen_checksums"])


def _intrinsics(K: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "w": size[0], "h": size[1],
        "fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2]),
    }  # fmt: skip


def _png(image: Tensor) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((255 * image.cpu().float().clamp(0, 1)).round().to(torch.uint8).numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def _store(path: Path, content: bytes | Path) -> str:
    """Write whole or not at all; the checksum of what was written."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, unfinished)
        else:
            unfinished.write_bytes(content)
        checksum = _checksum(unfinished.read_bytes())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return checksum


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    """None when the file is missing or damaged: both mean that the work was not finished."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _intact(folder: Path, checksums: dict[str, str]) -> bool:
    for name, expected in checksums.items():
        path = folder / name
        if not path.is_file() or _checksum(path.read_bytes()) != expected:
            return False
    return True
