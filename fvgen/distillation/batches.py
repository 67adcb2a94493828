"""Which clips an update sees: from (seed, number of the update) alone, whatever the split over processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fvgen.checks import require
from fvgen.clip import TrainBatch


class ClipSource(Protocol):
    """A data set of encoded clips.

    One that shows each clip in several views has their number as ``views``: clip ``i``'s have the numbers ``i``,
    ``i + clips``, ``i + 2 clips``, ...
    """

    meta: dict[str, Any]
    """How the clips were encoded."""
    config_hash: str
    """Hash of how they were made."""

    def __len__(self) -> int:
        """Views of all clips."""

    def batch(self, keys: Sequence[int]) -> TrainBatch:
        """The views of these numbers, float32 on the CPU."""


def _views(source: ClipSource) -> int:
    return getattr(source, "views", 1)


def held_out_keys(source: ClipSource, held_out: int) -> list[int]:
    """Numbers of the last ``held_out`` clips, each in its first view: as it is, without augmentation."""
    clips = len(source) // _views(source)
    return list(range(clips - held_out, clips))


@dataclass(frozen=True)
class MicroBatch:
    """Clips of one forward pass."""

    places: range
    """Places of the clips within the global batch."""
    clips: TrainBatch


class Batches:
    """Updates of a run as micro-batches; the next one is read while the present one is worked on.

    Args:
        source: the data set.
        seed: of the order. Every view of every clip is seen once before any is seen again.
        global_batch: clips per update, over all processes.
        places: which of them are this process's.
        micro_batch: clips per forward pass at most.
        held_out: clips at the end of the data set that are never given, in no view.

    Raises:
        InputError: no clip is left to train on.
    """

    def __init__(
        self, source: ClipSource, seed: int, global_batch: int, places: range, micro_batch: int, held_out: int = 0
    ) -> None:
        views = _views(source)
        clips = len(source) // views
        require(
            clips > held_out,
            "data set",
            f"hold clips to train on beside {held_out} held out",
            clips,
            "Prepare clips with fvgen clips.",
        )
        self._source = source
        self._seed = seed
        self._global_batch = global_batch
        self._places = [places[i : i + micro_batch] for i in range(0, len(places), micro_batch)]
        self._clips, self._trained = clips, clips - held_out
        self._count = self._trained * views
        self._reader = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[list[MicroBatch]]] | None = None

    def __getitem__(self, update: int) -> list[MicroBatch]:
        """The micro-batches of an update, counted from the start of the run."""
        ahead, self._ahead = self._ahead, None
        micros = ahead[1].result() if ahead and ahead[0] == update else self._read(update)
        self._ahead = (update + 1, self._reader.submit(self._read, update + 1))
        return micros

    def close(self) -> None:
        """Stop reading ahead."""
        self._reader.shutdown(cancel_futures=True)

    def keys(self, update: int, places: Sequence[int]) -> list[int]:
        """Numbers of the clips at these places of an update's global batch."""
        first = update * self._global_batch
        return [self._key(first + place) for place in places]

    def _key(self, position: int) -> int:
        epoch, within = divmod(position, self._count)
        drawn = int(np.random.default_rng((self._seed, epoch)).permutation(self._count)[within])
        view, clip = divmod(drawn, self._trained)
        return view * self._clips + clip  # every view of a held-out clip is left out

    def _read(self, update: int) -> list[MicroBatch]:
        return list(self._micros(update))

    def _micros(self, update: int) -> Iterator[MicroBatch]:
        for places in self._places:
            yield MicroBatch(places, self._source.batch(self.keys(update, places)))
