"""The photos of a split: what Nerfstudio's dataparser read, as the frames that fvgen works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs

from fvgen.checks import InputError, complaint
from fvgen.data.capture import DEPTH_UNIT, CaptureFrame
from fvgen.data.capture_notes import CaptureNotes, gathered
from fvgen.data.decoded_frame import DecodedFrame, decode_frame
from fvgen.data.depth_files import read_depth
from fvgen.data.frame_checks import check_depth_unit, check_frames, check_pixels
from fvgen.data.lenses import UNDISTORT
from fvgen.geometry.similarity import Similarity
from fvgen.types import PointCloud, Progress
from fvgen_ns.frames import no_cameras, poses_and_lenses

T = TypeVar("T")
FARTHEST = 20
"""Sparse points this many times as far from the cameras as the middle one are mistakes of their reconstruction."""
_MEND = "Mend or export the capture again; without a dataparser's name, fvgen-data finds out what kind it is."


def read_outputs(parser: DataParser, split: str) -> DataparserOutputs:
    """What a dataparser reads.

    Raises:
        InputError: it refuses the capture, or fails on it: Nerfstudio's own do so with errors of many kinds.
    """
    try:
        return parser.get_dataparser_outputs(split=split)
    except InputError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        rule = f"be a capture that Nerfstudio's dataparser {type(parser).__name__} can read"
        cure = UNDISTORT if isinstance(error, NotImplementedError) else _MEND  # a lens it does not know
        raise InputError(complaint("--data", rule, f"{parser.config.data} ({cause})", cure)) from error


@dataclass
class GivenOutputsConfig(DataParserConfig):
    """A capture that was read before, for a data manager that would read it again; without photos unless some are
    given."""

    _target: type = field(default_factory=lambda: GivenOutputs)
    outputs: DataparserOutputs = field(default_factory=lambda: DataparserOutputs([], no_cameras()))


class GivenOutputs(DataParser):
    """See `GivenOutputsConfig`."""

    config: GivenOutputsConfig

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs) -> DataparserOutputs:
        return self.config.outputs


@dataclass(frozen=True)
class CaptureSplit:
    """The photos of a split, as Nerfstudio describes them and as fvgen does; both in the dataparser's frame."""

    outputs: DataparserOutputs
    frames: tuple[CaptureFrame, ...]
    """One per image of ``outputs``."""
    sparse: PointCloud | None
    """The capture's own points; None when it has none."""
    similarity: Similarity
    """From the capture's own frame to the dataparser's."""
    depth_unit: float
    """Units of the dataparser's frame that one step of a depth file stands for."""

    @staticmethod
    def read(parser: DataParser, split: str) -> CaptureSplit:
        """What a dataparser reads for "train", "val" or "test".

        Raises:
            InputError: the dataparser fails, or as `of`.
        """
        return CaptureSplit.of(read_outputs(parser, split))

    @staticmethod
    def of(outputs: DataparserOutputs) -> CaptureSplit:
        """What a dataparser has read.

        Raises:
            InputError: a camera is no perspective camera.
        """
        unit = float(outputs.metadata.get("depth_unit_scale_factor", DEPTH_UNIT))
        scale = float(outputs.dataparser_scale)
        frames = tuple(_frames(outputs))
        notes = list(outputs.metadata.get("notes", []))
        sparse = _sparse_points(outputs, frames, notes)
        return CaptureSplit(
            outputs=replace(outputs, metadata={**outputs.metadata, "notes": notes}),
            frames=frames,
            sparse=sparse,
            similarity=Similarity(outputs.dataparser_transform.double().numpy()[:3], scale),
            depth_unit=unit * scale,
        )

    def check_training(self) -> None:
        """Refuse photos that cannot train together, from their descriptions and headers.

        Raises:
            InputError: see `fvgen.data.frame_checks.check_frames`.
        """
        check_frames(self.frames, decode=False)

    def check_depth(self) -> None:
        """Refuse measured depth in a wrong unit.

        Raises:
            InputError: see `fvgen.data.frame_checks.check_depth_unit`.
        """
        check_depth_unit(self.frames, self.sparse, self.depth_unit)

    def decode(
        self,
        work: Callable[[DecodedFrame], T],
        *,
        at_least: int,
        what: str,
        progress: Progress,
        known: Mapping[Path, T] | None = None,
    ) -> tuple[CaptureSplit, list[T]]:
        """Decode each photo, once, and give it to ``work``; what cannot be read is left out, and noted.

        Args:
            work: is given one photo after another.
            at_least: longest side that it needs (`fvgen.data.decoded_frame.decode_frame`).
            what: the photos are called in the progress.
            progress: called with the number of photos that are done.
            known: what ``work`` has made of photos before; these are not decoded again.

        Returns:
            The split of the other photos, and what ``work`` made of each.
        """
        notes, kept, made = CaptureNotes(), {}, []
        for i, frame in enumerate(self.frames):
            with notes.leaving_out(frame.name):
                if known is not None and frame.photo in known:
                    kept[i] = frame
                    made.append(known[frame.photo])
                else:
                    decoded = self._decoded(frame, at_least, notes)
                    made.append(work(decoded))
                    kept[i] = decoded.frame
            progress(i + 1, len(self.frames), f"reading {what}")
        return self._part(kept, notes), made

    def _decoded(self, frame: CaptureFrame, at_least: int, notes: CaptureNotes) -> DecodedFrame:
        """A photo whose depth cannot be read is as good as one without."""
        decoded = decode_frame(replace(frame, depth=None), self.depth_unit, at_least=at_least)
        if frame.depth is not None:
            with notes.leaving_out(f"the depth of {frame.name}"):
                return replace(decoded, frame=frame, depth=read_depth(frame.depth, self.depth_unit))
        return decoded

    def whole(self) -> CaptureSplit:
        """The split without photos that cannot be decoded: what `decode` keeps, where nothing is done with them."""
        notes, kept = CaptureNotes(), {}
        for i, frame in enumerate(self.frames):
            with notes.leaving_out(frame.name):
                check_pixels(frame)
                kept[i] = frame
                if frame.depth is not None:
                    kept[i] = replace(frame, depth=None)
                    with notes.leaving_out(f"the depth of {frame.name}"):
                        read_depth(frame.depth, self.depth_unit)
                        kept[i] = frame
        return self._part(kept, notes)

    def _part(self, kept: Mapping[int, CaptureFrame], notes: CaptureNotes) -> CaptureSplit:
        """The given frames alone, with a note on why others are left out."""
        if not notes.left_out:
            return self
        frames, outputs = tuple(kept.values()), self.outputs
        has_depth, has_masks = any(f.depth for f in frames), any(f.mask for f in frames)
        metadata = {
            **outputs.metadata,
            "depth_filenames": [f.depth for f in frames] if has_depth else None,
            "notes": gathered([*self.notes, *notes.sentences()]),
        }
        outputs = replace(
            outputs,
            image_filenames=[f.photo for f in frames],
            mask_filenames=[f.mask for f in frames] if has_masks else None,  # type: ignore[misc]  # None: all counts
            cameras=outputs.cameras[torch.tensor(list(kept), dtype=torch.long)],
            metadata=metadata,
        )
        return replace(self, outputs=outputs, frames=frames)

    @property
    def notes(self) -> list[str]:
        """What the user should know of these photos."""
        return list(self.outputs.metadata.get("notes", []))

    def with_note(self, note: str) -> CaptureSplit:
        """The same photos, and one more sentence that the user should know of them."""
        metadata = {**self.outputs.metadata, "notes": [*self.notes, note]}
        return replace(self, outputs=replace(self.outputs, metadata=metadata))

    def scene_scale(self, points: PointCloud | None) -> float:
        """Typical distance from the cameras to what they see, in scene units.

        The median depth of the points in front of the cameras; without points, the spread of the cameras.
        """
        positions = np.stack([frame.c2w[:3, 3] for frame in self.frames])
        spread = float(np.max(np.linalg.norm(positions - positions.mean(axis=0), axis=1)))
        if points is None or not len(points):
            return max(spread, 1e-6)
        xyz = points.xyz.double().cpu().numpy()
        forward = np.stack([frame.c2w[:3, 2] for frame in self.frames])
        depth = ((xyz[None] - positions[:, None]) * forward[:, None]).sum(axis=-1)
        in_front = depth[depth > 0]
        return float(np.median(in_front)) if len(in_front) else max(spread, 1e-6)


def _frames(outputs: DataparserOutputs) -> list[CaptureFrame]:
    cameras = poses_and_lenses(outputs.cameras)
    depths = outputs.metadata.get("depth_filenames") or [None] * len(cameras)
    masks: list[Path | None] = list(outputs.mask_filenames or []) or [None] * len(cameras)
    ignored = outputs.metadata.get("exif_ignored", ())
    return [
        CaptureFrame(path.name, path, c2w, K, size, distortion, depth, mask, path in ignored)
        for path, (c2w, K, size, distortion), depth, mask in zip(
            outputs.image_filenames, cameras, depths, masks, strict=True
        )
    ]


def _sparse_points(outputs: DataparserOutputs, frames: Sequence[CaptureFrame], notes: list[str]) -> PointCloud | None:
    """The points that can belong to what the frames show; ``notes`` says how many cannot."""
    xyz = outputs.metadata.get("points3D_xyz")
    if xyz is None or not len(xyz):
        return None
    finite = torch.isfinite(xyz).all(dim=1)
    cameras = torch.from_numpy(np.stack([frame.c2w[:3, 3] for frame in frames]))
    distance = torch.cdist(xyz[finite].double(), cameras).min(dim=1).values
    near = distance <= FARTHEST * distance.median() if len(distance) else finite[finite]
    kept = finite.clone()
    kept[finite] = near
    if not kept.all():
        notes.append(
            f"Left out {int((~kept).sum())} of {len(kept)} sparse points: not finite, or more than {FARTHEST} times as"
            " far away as most."
        )
    if not kept.any():
        return None
    rgb = outputs.metadata["points3D_rgb"].float() / 255
    return PointCloud(xyz[kept].float(), rgb[kept], torch.ones(int(kept.sum())))
