"""Training sets on disk: WebDataset tar shards, an index with byte offsets and checksums, and `ShardDataset`.

A folder holds one tar per scene with its part of the index beside it, and ``index.json``, which joins the parts. A part
is written after its tar is whole, so a scene is done when its part is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fvgen.checks import InputError, complaint, require
from fvgen.clip import Conditions, TrainBatch
from fvgen.data.clip_encodings import EncodedClip, View, decoder_for
from fvgen.files import read_json, sha256, store, write_json

INDEX = "index.json"
_PART = ".part.json"
_FORMAT = 1
_AGAIN = "Prepare the clips again with fvgen clips; what is whole is kept."


@dataclass(frozen=True)
class Sample:
    """Where a clip lies."""

    key: str
    offset: int
    """First byte of its content within the tar."""
    size: int
    """Bytes of its content."""
    height: int
    width: int


@dataclass(frozen=True)
class _Shard:
    """A tar and its clips, as the index lists them."""

    name: str
    sha256: str
    bytes: int
    samples: Sequence[dict[str, Any]]
    """`Sample` each"""
    config_hash: str


def config_hash(meta: Mapping[str, Any]) -> str:
    """Twelve hex digits of how clips were made."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:12]


def write_shard(folder: Path, scene: str, clips: Sequence[EncodedClip], meta: Mapping[str, Any]) -> None:
    """A scene's clips as ``SCENE.tar`` and its part of the index, each there whole or not at all.

    Both are on the disk for good before this returns: a part without its tar would pass for a scene that is done.

    Raises:
        InputError: no clips.
        OSError: the folder cannot be written.
    """
    require(len(clips) > 0, scene, "give a clip", "none", "Leave the scene out.")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for clip in clips:
            member = tarfile.TarInfo(f"{clip.key}.{clip.extension}")
            member.size = len(clip.content)
            tar.addfile(member, io.BytesIO(clip.content))
    content = buffer.getvalue()
    buffer.seek(0)
    samples = []
    with tarfile.open(fileobj=buffer) as tar:
        for clip, member in zip(clips, tar.getmembers(), strict=True):
            samples.append(asdict(Sample(clip.key, member.offset_data, member.size, clip.height, clip.width)))
    name = f"{scene}.tar"
    checksum = store(folder / name, content, durable=True)
    part = {"name": name, "sha256": checksum, "bytes": len(content), "samples": samples}
    write_json(folder / f"{scene}{_PART}", part | {"config_hash": config_hash(meta)}, durable=True)


def scene_is_done(folder: Path, scene: str, meta: Mapping[str, Any], clips: int | None = None) -> bool:
    """Whether the scene's shard is there, made in the same way, with so many clips at least."""
    part = _part(folder / f"{scene}{_PART}", meta)
    tar = folder / f"{scene}.tar"
    whole = part is not None and tar.is_file() and tar.stat().st_size == part["bytes"]
    return whole and part is not None and len(part["samples"]) >= (clips or 1)


def _part(path: Path, meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """A part of the index; None when it is damaged or was made in another way."""
    part = read_json(path)
    known = {"name", "sha256", "bytes", "samples", "config_hash"} <= set(part or ())
    return part if part is not None and known and part["config_hash"] == config_hash(meta) else None


def _parts(folder: Path, meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [part for path in sorted(folder.glob(f"*{_PART}")) if (part := _part(path, meta)) is not None]


def write_index(folder: Path, meta: Mapping[str, Any]) -> int:
    """Join the parts of all scenes made in this way; the number of clips. Any process may do it at any time."""
    shards: list[dict[str, Any]] | None = None
    # again when another process has finished a scene meanwhile, so that the last one to write knows all scenes
    while shards != (now := _parts(folder, meta)):
        shards = now
        index = {"format": _FORMAT, "meta": dict(meta), "config_hash": config_hash(meta), "shards": shards}
        write_json(folder / INDEX, index)
    return sum(len(shard["samples"]) for shard in now)


class ShardDataset:
    """Clips of a folder by number, each in one or more views.

    Args:
        folder: as written by ``fvgen clips``.
        check: compare every shard with its checksum.
        views: how often each clip counts, each time seen differently: mirrored, backwards where both of its ends are
            known, cropped elsewhere. Clip ``i``'s views have the numbers ``i``, ``i + clips``, ``i + 2 clips``, ...
        crop: height and width of a window cut from every clip; None for all of it.

    Attributes:
        meta: how the clips were made: codec, ``latent_channels``, ``condition_channels``, ``frames``, ``height``,
            ``width``, ``fps``, ``tokens``, ``context_dim``, ...
        config_hash: hash of ``meta``.
        views: as given.

    Raises:
        InputError: no index, an index of another format, no clips, a shard that is missing or damaged (named), or views
            and crops of clips that are stored as latents.
    """

    def __init__(
        self, folder: Path | str, *, check: bool = True, views: int = 1, crop: tuple[int, int] | None = None
    ) -> None:
        self.folder = Path(folder)
        index = read_json(self.folder / INDEX)
        require(index is not None, str(self.folder), f"hold a readable {INDEX}", "none", _AGAIN)
        assert index is not None
        require(index.get("format") == _FORMAT, INDEX, f"have format {_FORMAT}", index.get("format"), _AGAIN)
        try:
            self.meta: dict[str, Any] = index["meta"]
            self.config_hash: str = index["config_hash"]
            shards = [_Shard(**shard) for shard in index["shards"]]
            self._places = [(shard.name, Sample(**sample)) for shard in shards for sample in shard.samples]
        except (KeyError, TypeError) as error:
            raise InputError(complaint(str(self.folder / INDEX), "be as written", f"'{error}'", _AGAIN)) from error
        known = config_hash(self.meta)
        require(self.config_hash == known, INDEX, f"be as written, with the hash {known}", self.config_hash, _AGAIN)
        require(len(self._places) > 0, str(self.folder), "hold clips", "none", _AGAIN)
        for shard in shards:
            _check_shard(self.folder / shard.name, shard, check)
        self.views, self._crop = views, crop
        self._check_views()

    def _check_views(self) -> None:
        require(self.views >= 1, "views", "be at least 1", self.views, "1 gives each clip as it is.")
        encoding = self.meta["encoding"]
        require(
            encoding == "pixels" or (self.views == 1 and self._crop is None),
            "views and crop",
            "be left out for clips stored as latents",
            (self.views, self._crop),
            "Prepare clips as pixels.",
        )
        smallest = tuple(min(getattr(s, side) for _, s in self._places) for side in ("height", "width"))
        if self._crop is not None:
            unit = self.meta["codec"]["downscale"]
            require(
                all(0 < c <= s and c % unit == 0 for c, s in zip(self._crop, smallest, strict=True)),
                "crop",
                f"be multiples of {unit} up to {smallest}",
                self._crop,
                "The smallest clip must hold it.",
            )
        sizes = {(s.height, s.width) for _, s in self._places}
        require(
            self._crop is not None or len(sizes) == 1,
            "crop",
            "be given for clips of several sizes",
            sorted(sizes),
            f"Use a crop within {smallest}.",
        )

    def __len__(self) -> int:
        return len(self._places) * self.views

    @cached_property
    def _decoder(self):
        return decoder_for(self.meta)

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        """The clips of these numbers, float32 on the CPU.

        Raises:
            InputError: a number that is not there, or a shard that cannot be read any more.
        """
        require(
            len(keys) > 0 and all(0 <= key < len(self) for key in keys),
            "keys",
            f"be numbers from 0 to {len(self) - 1}",
            list(keys)[:8],
            "Take them modulo len(dataset).",
        )
        clips = [self._decoder.decode(self._read(key), self._view(key)) for key in keys]
        latents, conditions = [clip.latents for clip in clips], [clip.conditions for clip in clips]
        unconditional = [c.unconditional_tokens for c in conditions]
        return TrainBatch(
            latents=torch.cat(latents),
            conditions=Conditions(
                render_latents=torch.cat([c.render_latents for c in conditions]),
                tokens=torch.cat([c.tokens for c in conditions]),
                fps=torch.cat([c.fps for c in conditions]),
                unconditional_tokens=None if unconditional[0] is None else torch.cat(unconditional),  # type: ignore[arg-type]
            ),
        )

    def _read(self, key: int) -> bytes:
        name, sample = self._places[key % len(self._places)]
        try:
            with (self.folder / name).open("rb") as shard:
                shard.seek(sample.offset)
                content = shard.read(sample.size)
        except OSError as error:
            raise InputError(complaint(name, "be readable", f"'{error}'", _AGAIN)) from error
        require(len(content) == sample.size, name, "be whole", f"an end within clip {sample.key}", _AGAIN)
        return content

    def _view(self, key: int) -> View:
        """How the clip of this number is seen: from the number alone, so that a resumed run sees the same."""
        number, place = divmod(key, len(self._places))
        _, sample = self._places[place]
        height, width = self._crop or (sample.height, sample.width)
        rng = np.random.default_rng([place, number])
        return View(
            mirrored=number % 2 == 1,
            backwards=number // 2 % 2 == 1,
            top=int(rng.integers(sample.height - height + 1)),
            left=int(rng.integers(sample.width - width + 1)),
            height=height,
            width=width,
        )


def _check_shard(path: Path, shard: _Shard, compare: bool) -> None:
    """Refuse a shard that is not what was written."""
    require(path.is_file(), str(path), "be there", "no such file", _AGAIN)
    size = path.stat().st_size
    require(size == shard.bytes, str(path), f"have {shard.bytes} bytes", size, f"Delete it. {_AGAIN}")
    if not compare:
        return
    found = sha256(path)
    require(
        found == shard.sha256,
        str(path),
        f"have the checksum {shard.sha256[:12]}...",
        f"{found[:12]}...",
        f"Delete it. {_AGAIN}",
    )
    with tarfile.open(path) as tar:
        members = [(member.name.partition(".")[0], member.offset_data, member.size) for member in tar]
    listed = [(sample["key"], sample["offset"], sample["size"]) for sample in shard.samples]
    require(members == listed, INDEX, f"list where the clips of {path} lie", "other places", f"Delete it. {_AGAIN}")
