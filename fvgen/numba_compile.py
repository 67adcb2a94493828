"""How this package compiles its numba kernels and spreads them over threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numba
import torch

_OPTIONS: dict[str, Any] = {
    # "nnan" and "ninf" are left out: culling relies on comparisons with NaN being false.
    "fastmath": {"reassoc", "contract", "nsz", "arcp"},
    "error_model": "numpy",
    "boundscheck": False,
}
_PARTS_PER_THREAD = 4


def kernel_part(function: Callable) -> Callable:
    """Compile a function that only kernels of the same file call."""
    return numba.njit(**_OPTIONS)(function)


def exact_kernel_part(function: Callable) -> Callable:
    """As `kernel_part`, for an `exact_kernel`."""
    return numba.njit(**_OPTIONS | {"fastmath": False})(function)


def kernel(function: Callable) -> Callable:
    """Compile a function that Python calls, without the GIL; cached on disk where that can be written.

    The cache is keyed by the source file of the kernel alone: it does not notice a change in another file. So a kernel
    calls only parts of its own file, and takes constants that several files share as arguments.
    """
    return _compile(function, _OPTIONS)


def exact_kernel(function: Callable) -> Callable:
    """As `kernel`, every operation rounded as it is written: for results that equal torch's bit for bit."""
    return _compile(function, _OPTIONS | {"fastmath": False})


def _compile(function: Callable, options: dict[str, Any]) -> Callable:
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError as error:
        # Raised while decorating, when neither the source's folder nor the user's cache folder can be written.
        if "cannot cache" not in str(error):
            raise
        return numba.njit(nogil=True, **options)(function)


_reserved: list[int] = []
"""Threads that `threads_for_kernels` took from torch, innermost last."""


@contextmanager
def threads_for_kernels() -> Iterator[None]:
    """Inside, kernels run on the threads that torch had, and torch's own operations on one.

    For loops of many small operations. OpenMP's threads wait for the next one in a busy loop: they gain nothing where
    an operation takes microseconds, and take the cores from whatever else runs, kernels included. The variables that
    make them wait otherwise (OMP_WAIT_POLICY) are read when torch is imported, which ns-train does before any plugin.
    """
    of_torch = torch.get_num_threads()
    _reserved.append(_threads())
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(of_torch)
        _reserved.pop()


def run_parallel(kernel: Callable[..., None], count: int, *arguments: Any) -> None:
    """Call ``kernel(first, last, *arguments)`` on ranges that make up [0, count), on as many threads as torch uses.

    Inside `threads_for_kernels`, on as many as torch used before.

    Plain threads instead of numba's ``prange``: its OpenMP layer waits for all cores even where one thread was asked
    for (ten times slower on a machine that has other work to do), its fallback layer aborts the process when two
    threads meet in it, and parallel kernels take twice as long to compile. Ranges are handed out as threads come
    free, so a kernel's results must not depend on who computes what.
    """
    threads = _threads()
    parts = 1 if threads == 1 else min(count, _PARTS_PER_THREAD * threads)
    ranges = iter([(part * count // parts, (part + 1) * count // parts) for part in range(parts)])

    def work() -> None:
        for first, last in ranges:
            kernel(first, last, *arguments)

    _share(work, threads)


def for_each(function: Callable[[int], None], count: int) -> None:
    """Call ``function(i)`` for every i in [0, count), torch's operations in each call on one thread.

    On as many threads as `run_parallel` takes, in no order: for pictures that are made of torch's operations on a CPU.
    """
    threads, numbers = _threads(), iter(range(count))
    if threads == 1:
        for i in numbers:
            function(i)
        return

    def work() -> None:
        torch.set_num_threads(1)  # also holds for the thread that calls it
        for i in numbers:
            function(i)

    with threads_for_kernels():
        _share(work, threads)


def _threads() -> int:
    return _reserved[-1] if _reserved else torch.get_num_threads()


def _share(work: Callable[[], None], threads: int) -> None:
    """Run ``work`` on this thread and on helpers, which take what is left of it."""
    helpers = [_pool(threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun by now is not needed any more
            helper.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "fvgen-kernels")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked process has none of its parent's threads
