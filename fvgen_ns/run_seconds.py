"""How long the parts of a run took, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS: dict[str, float] = {}
"""Part -> seconds; what was read from a cache is not there."""


@contextmanager
def timed(part: str) -> Iterator[None]:
    """Add the time of the block to a part's seconds."""
    start = time.monotonic()
    try:
        yield
    finally:
        SECONDS[part] = SECONDS.get(part, 0.0) + time.monotonic() - start
