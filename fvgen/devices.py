"""The only file that asks what hardware there is."""

from __future__ import annotations

import os

import torch


def default_device() -> torch.device:
    """CUDA when there is a usable GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_gpu(device: torch.device | str) -> bool:
    """Whether tensors on ``device`` live on a CUDA GPU."""
    return torch.device(device).type == "cuda"


def default_dtype(device: torch.device | str) -> torch.dtype:
    """The dtype networks run in: bfloat16 on a GPU that has it, else float32."""
    return torch.bfloat16 if is_gpu(device) and torch.cuda.is_bf16_supported() else torch.float32


def cpu_count() -> int:
    """Cores this process may use (respects affinity and containers that pin)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
