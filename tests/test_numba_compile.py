"""Kernels compile anywhere, and work is shared between threads."""

from __future__ import annotations

import threading

import numba
import numpy as np
import pytest
import torch

from fvgen.numba_compile import for_each, kernel, run_parallel, threads_for_kernels


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_every_number_is_worked_on_once_and_torch_runs_on_one_thread(three_threads):
    done, inside = [], set()

    def work(i):
        inside.add(torch.get_num_threads())
        done.append(i)

    for_each(work, 20)
    assert sorted(done) == list(range(20)) and inside == {1} and torch.get_num_threads() == 3


def test_what_fails_on_a_helper_reaches_the_caller(three_threads):
    meet = threading.Barrier(2, timeout=20)

    def work(i):
        meet.wait()  # so that a helper has begun, too
        raise ValueError(str(i))

    with pytest.raises((ValueError, threading.BrokenBarrierError)):
        for_each(work, 2)
    assert torch.get_num_threads() == 3


def test_kernels_keep_the_threads_that_torch_gives_up(three_threads):
    ranges = []
    with threads_for_kernels(), threads_for_kernels():
        assert torch.get_num_threads() == 1
        run_parallel(lambda first, last: ranges.append((first, last)), 120)
    assert len(ranges) == 12 and torch.get_num_threads() == 3


def test_kernels_compile_where_no_cache_can_be_written():
    namespace: dict = {}
    exec("def twice(x):\n    return 2 * x", namespace)  # no source file: numba finds no place for a cache
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(namespace["twice"])
    assert kernel(namespace["twice"])(21) == 42


@pytest.mark.parametrize("threads", [1, 4])
def test_run_parallel_covers_every_item_once(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for count in (0, 1, 3, 100):
            hits = np.zeros(count, int)

            def work(first, last, hits=hits):
                hits[first:last] += 1

            run_parallel(work, count)
            assert (hits == 1).all()
    finally:
        torch.set_num_threads(before)
