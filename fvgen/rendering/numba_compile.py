"""How this package compiles its numba kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

# "nnan" and "ninf" are left out: culling relies on comparisons with NaN being false.
_FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: Callable | None = None, *, parallel: bool = False) -> Callable:
    """``numba.njit`` with the flags all kernels share, cached on disk where a cache folder is writable.

    Numba refuses to decorate at all when it finds no writable cache folder (a read-only installation without a home);
    then the kernel is compiled anew in each process.

    The cache is keyed by the source file of the decorated function alone: it does not notice a change in another file.
    So a kernel calls only functions of its own file, and takes what several files share as arguments.

    The GIL is kept while a kernel runs (no ``nogil``): numba's fallback threading layer aborts the process when two
    threads start a parallel kernel at once.
    """
    if function is None:
        return lambda inner: compiled(inner, parallel=parallel)
    options: dict[str, Any] = {"parallel": parallel, "fastmath": _FAST_MATH, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return numba.njit(**options)(function)
