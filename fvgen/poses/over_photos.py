"""Work on photos, or on pairs of them, on several threads."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import torch

from fvgen.numba_compile import threads_for_kernels
from fvgen.poses.features import Matcher
from fvgen.types import Progress


def for_all(
    function: Callable[[int], None], count: int, matcher: Matcher, at_once: int, what: str, progress: Progress
) -> None:
    """Call ``function(i)`` for every i in [0, count).

    Torch's operations run on one thread in each call: on several they add in another order, and the same photos would
    give slightly other poses on another machine.

    Args:
        function: of the number of a photo or pair.
        count: photos or pairs.
        matcher: that the function uses; it says whether several threads may.
        at_once: calls, as far as there are cores; each holds the networks' intermediate results in memory.
        what: the step, for ``progress``.
        progress: called after each photo or pair, by one thread at a time.
    """
    finished, lock = itertools.count(1), Lock()

    def one(i: int) -> None:
        function(i)
        with lock:
            progress(next(finished), count, what)

    progress(0, count, what)
    threads = min(torch.get_num_threads(), at_once) if matcher.parallel else 1
    with threads_for_kernels(), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in pool.map(one, range(count)):  # the first error ends it
            pass
