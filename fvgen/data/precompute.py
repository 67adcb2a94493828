"""Scenes -> clips -> conditions -> shards: resumable per scene, split over processes, bad scenes left out and named."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from fvgen.checks import require
from fvgen.clip import Clip
from fvgen.data.clip_encodings import ClipEncoder, EncodedClip
from fvgen.data.shards import config_hash, scene_is_done, write_index, write_shard
from fvgen.files import read_json, whole_file, write_json
from fvgen.rendering.point_renderer import TEACHER_RADIUS, resolve
from fvgen.types import SceneGeometry

_SHEET_CLIPS = 100
"""Clips from one contact sheet to the next."""
_SHEET_ROWS = 10
"""Clips shown in one."""
_INDEX_EVERY = 10
"""Scenes from one writing of the index to the next."""
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_TILE = 128
"""Pixels of a tile's longer side."""


class Scene(Protocol):
    """A unit of work: one capture, or a block of procedural seeds."""

    @property
    def name(self) -> str:
        """Name of its shard."""

    @property
    def count(self) -> int | None:
        """Number of its clips, where that is known before they are made."""

    def clips(self) -> Iterator[tuple[Clip, SceneGeometry]]:
        """Its clips with the geometry of their photos."""


@dataclass
class Summary:
    """What became of the scenes."""

    written: int = 0
    """Scenes that this run has written."""
    kept: int = 0
    """Scenes that an earlier run has written."""
    clips: int = 0
    """Clips of this run."""
    uncovered: int = 0
    """Clips of this run that were left out, because their points cover too little."""
    failed: dict[str, str] = field(default_factory=dict)
    """Scene -> reason why it was left out."""


Report = Callable[[int, int, str, Summary], None]
"""``report(done, scenes, name, summary)`` after every scene."""


def parse_part(text: str) -> tuple[int, int]:
    """(i, n) of "i/n": the i-th of n parts of the scenes, counted from 0.

    Raises:
        InputError: anything else.
    """
    pieces = text.split("/")
    numbers = len(pieces) == 2 and all(piece.isascii() and piece.isdigit() for piece in pieces)
    good = numbers and int(pieces[0]) < int(pieces[1])
    require(good, "shard", "be i/n with 0 <= i < n", repr(text), "Use 0/4, 1/4, 2/4 and 3/4 for four processes.")
    return int(pieces[0]), int(pieces[1])


def precompute(
    scenes: Sequence[Scene],
    encoder: ClipEncoder,
    folder: Path,
    settings: dict[str, Any],
    part: tuple[int, int] = (0, 1),
    report: Report | None = None,
    least_coverage: float = 0.0,
) -> Summary:
    """Write the shards of this part of the scenes, and the index of all that are there.

    Args:
        scenes: all scenes, in the same order in every process.
        encoder: clips -> bytes.
        folder: made when it is not there.
        settings: how clips are made; with the encoder's they tell training sets apart.
        part: (i, n): this process takes scenes i, i + n, i + 2 n, ...
        report: called after every scene.
        least_coverage: share of the frames between the photos that points must cover; clips of less are left out.

    Raises:
        InputError: no scenes, two of one name, the folder holds clips that were made otherwise, or no scene of any part
            gave a clip.
        OSError: the folder cannot be written.
    """
    require(len(scenes) > 0, "scenes", "not be empty", 0, "Name a folder of captures, or ask for procedural clips.")
    (name, times), *_ = Counter(scene.name for scene in scenes).most_common(1)
    require(times == 1, "scenes", "have names of their own", f"{name} {times} times", "Rename one of the folders.")
    meta = encoder.meta | settings
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder, meta)
    failures = folder / f"failed_{part[0]:04d}_of_{part[1]:04d}.json"
    failures.unlink(missing_ok=True)  # an earlier run's
    summary, sheet = Summary(), _Sheet(folder)
    mine = scenes[part[0] :: part[1]]
    for i, scene in enumerate(mine):
        if scene_is_done(folder, scene.name, meta, scene.count):
            summary.kept += 1
        else:
            _write_scene(scene, encoder, folder, meta, summary, sheet, least_coverage)
        if i % _INDEX_EVERY == 0:
            write_index(folder, meta)  # training may begin on what is there
        if report is not None:
            report(i + 1, len(mine), scene.name, summary)
    sheet.write()
    write_json(failures, summary.failed)
    clips = write_index(folder, meta)
    # While other parts are at work, theirs may give clips.
    last = len(list(folder.glob(f"failed_*_of_{part[1]:04d}.json"))) >= part[1]
    reasons = "; ".join(f"{name}: {reason}" for name, reason in list(summary.failed.items())[:3])
    require(clips > 0 or not last, "scenes", "give a clip", f"none ({reasons})", "See the reasons in failed_*.json.")
    return summary


def _check_folder(folder: Path, meta: dict[str, Any]) -> None:
    """Clips of two kinds in one folder would be joined to one training set that is neither."""
    note = folder / "settings.json"
    if not note.is_file():
        write_json(note, {"config_hash": config_hash(meta), "meta": meta})
    known = (read_json(note) or {}).get("config_hash")
    require(
        known == config_hash(meta),
        str(folder),
        f"hold clips of these settings ({config_hash(meta)})",
        known,
        "Choose another folder, or the settings in its settings.json.",
    )


def _write_scene(
    scene: Scene,
    encoder: ClipEncoder,
    folder: Path,
    meta: dict[str, Any],
    summary: Summary,
    sheet: _Sheet,
    least_coverage: float,
) -> None:
    """Make and store a scene's clips, or note why not."""
    encoded: list[EncodedClip] = []
    try:
        for clip, geometry in scene.clips():
            if least_coverage > 0 and coverage(clip, geometry) < least_coverage:
                summary.uncovered += 1
            else:
                encoded.append(encoder.encode(clip, geometry))
        found = f"none that points cover by {least_coverage:.0%}" if least_coverage else "none"
        require(len(encoded) > 0, scene.name, "give a clip", found, "Leave the scene out.")
    except Exception as error:  # whatever is wrong with one scene of thousands, the others go on
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            raise
        summary.failed[scene.name] = f"{type(error).__name__}: {error}"
        return
    write_shard(folder, scene.name, encoded, meta)
    for one in encoded:
        sheet.add(one)
    summary.written += 1
    summary.clips += len(encoded)


def coverage(clip: Clip, geometry: SceneGeometry) -> float:
    """Share of the frames between a clip's photos that its points cover, as the teacher's renderer draws them."""
    render = resolve("teacher").render(geometry.points, clip.path.drawn, TEACHER_RADIUS)
    return float((render.depth > 0).float().mean())


class _Sheet:
    """A picture of every tenth of a hundred clips: first frame, a frame between, and what is known of that one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.first = folder, ""
        self.count, self.rows = 0, list[Tensor]()

    def add(self, clip: EncodedClip) -> None:
        """Take note of a clip."""
        if not self.rows:
            self.first = clip.key
        if self.count % (_SHEET_CLIPS // _SHEET_ROWS) == 0:
            self.rows.append(torch.cat([_tile(tile) for tile in clip.preview], dim=2))
        self.count += 1
        if self.count % _SHEET_CLIPS == 0:
            self.write()

    def write(self) -> None:
        """Write what is there and begin anew."""
        if not self.rows:
            return
        picture = torch.cat(self.rows, dim=1)
        path = self.folder / f"sheet_{self.first}.png"
        with whole_file(path) as unfinished:
            Image.fromarray((255 * picture).byte().permute(1, 2, 0).numpy()).save(unfinished, format="PNG")
        self.rows = []


def _tile(image: Tensor) -> Tensor:
    """[3, TILE, TILE] with an image [3, H, W] in its middle."""
    scale = _TILE / max(image.shape[1:])
    size = [max(round(side * scale), 1) for side in image.shape[1:]]
    small = functional.interpolate(image[None], size, mode="area")[0]
    tile = torch.zeros(3, _TILE, _TILE)
    top, left = ((_TILE - side) // 2 for side in size)
    tile[:, top : top + size[0], left : left + size[1]] = small
    return tile
