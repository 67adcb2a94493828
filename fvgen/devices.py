"""The only file that asks what hardware there is."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from shutil import which

import torch
from torch import Tensor


def default_device() -> torch.device:
    """CUDA when there is a usable GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_gpu(number: int) -> None:
    """Take another GPU as the default one, for the ``number``-th process of this machine; without GPUs, nothing."""
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def is_gpu(device: torch.device | str) -> bool:
    """Whether tensors on ``device`` live on a CUDA GPU."""
    return torch.device(device).type == "cuda"


@cache
def _has_triton() -> bool:
    compiler = os.environ.get("CC") or next(filter(which, ("gcc", "clang", "cc")), None)  # Triton's launcher is C
    return find_spec("triton") is not None and compiler is not None


_plain = False


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, networks use torch's own operations alone: what our kernels are measured against."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before


def has_kernels(device: torch.device | str) -> bool:
    """Whether networks on ``device`` may use our Triton kernels: on a GPU, outside of torch.compile (which fuses by
    itself), where Triton is installed, as it is with torch's wheels for GPUs, and finds a C compiler."""
    return is_gpu(device) and not _plain and not torch.compiler.is_compiling() and _has_triton()


def default_dtype(device: torch.device | str) -> torch.dtype:
    """The dtype networks run in: bfloat16 on a GPU that has it, else float32."""
    return torch.bfloat16 if is_gpu(device) and torch.cuda.is_bf16_supported() else torch.float32


def cpu_count() -> int:
    """Cores this process may use (respects affinity and containers that pin)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def gpu_name() -> str | None:
    """What the default GPU calls itself; None without one."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def record(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record the kernels that ``run`` launches on the default GPU as a graph.

    Returns:
        what replays it, and the tensor that holds its result afterwards.
    """
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # libraries set themselves up, and kernels are compiled, before the recording
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    return graph.replay, output


def side_by_side(
    first: Callable[[], Tensor], second: Callable[[], Tensor], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Both results: on a GPU of work on two streams, which small kernels do not fill one after another."""
    if not is_gpu(device):
        return first(), second()
    here, beside = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        other = second()
    own = first()
    here.wait_stream(beside)
    other.record_stream(here)
    return own, other


def out_of_memory(error: BaseException) -> bool:
    """Whether a GPU's memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError)


def free_memory() -> None:
    """Give back memory that nothing refers to any more, on the GPU too (pipelines hold reference cycles)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize(device: torch.device | str) -> None:
    """Wait until ``device`` has done all that it was given: clocks read before that time nothing."""
    if is_gpu(device):
        torch.cuda.synchronize(device)


def reset_peak_memory(device: torch.device | str) -> None:
    """Start `peak_memory` anew."""
    if is_gpu(device):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device | str) -> int | None:
    """Most bytes of GPU memory that this process has held since `reset_peak_memory`; None on a CPU.

    Counted is what the allocator took from the GPU, which is what must be free for the work to run.
    """
    return torch.cuda.max_memory_reserved(device) if is_gpu(device) else None


def available_memory(device: torch.device | str) -> int:
    """Bytes that this process can still take on ``device``, what it holds there and no longer needs included."""
    if is_gpu(device):
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return psutil.virtual_memory().available
