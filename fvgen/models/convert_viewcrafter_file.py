"""Opening a ViewCrafter checkpoint: both layouts of the file, memory-mapped, nothing in it executed."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require

_DEEPSPEED_PREFIX = "_forward_module."


def read_checkpoint(path: Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a ViewCrafter checkpoint under their Lightning names, mapped from the file and not yet read.

    Args:
        path: A Lightning file (tensors under ``state_dict``) or a DeepSpeed one (under ``module``, every name behind a
            prefix of 16 characters, older ones with ``framestride_embed`` for ``fps_embedding``).
        trust_pickle: Also open a file that holds more than tensors and plain values: Python code in it is then run.

    Raises:
        InputError: The file is missing, cut short, not a torch file, not of either layout, or needs ``trust_pickle``.
    """
    require(path.is_file(), "CKPT", "be a file", path, "scripts/download.py fetches the released ones.")
    require(
        zipfile.is_zipfile(path), "CKPT", "be a whole torch file", f"{path} ({path.stat().st_size:,} bytes)",
        "It was cut short or is no checkpoint: download it again; scripts/download.py goes on where it stopped.",
    )  # fmt: skip
    content = _load(path, trust_pickle)
    require(
        isinstance(content, dict) and ("state_dict" in content or "module" in content),
        "CKPT", "hold 'state_dict' (Lightning) or 'module' (DeepSpeed)",
        sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__,
        "Give a ViewCrafter .ckpt as released.",
    )  # fmt: skip
    tensors = content["state_dict"] if "state_dict" in content else _without_deepspeed_prefix(content["module"])
    strangers = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    require(not strangers, "CKPT", "hold tensors only", strangers[:3], "Give a ViewCrafter .ckpt as released.")
    return {name.replace("framestride_embed", "fps_embedding"): tensor for name, tensor in tensors.items()}


def _load(path: Path, trust_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        found = f"{path.name} with objects of {named[1]}" if named else f"{path.name}: {error}"
        advice = (
            "--trust-pickle loads it all the same and with that RUNS whatever code the file carries, with your rights: "
            "give it only for a file whose origin you trust."
        )
        raise InputError(complaint("CKPT", "hold tensors and plain values only", found, advice)) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise InputError(
            complaint("CKPT", "be a whole torch file", f"{path} ({error})", "Download it again.")
        ) from error


def _without_deepspeed_prefix(module: dict[str, Tensor]) -> dict[str, Tensor]:
    others = [name for name in module if not name.startswith(_DEEPSPEED_PREFIX)]
    require(
        not others, "CKPT", f"prefix every name under 'module' with {_DEEPSPEED_PREFIX!r}", others[:3],
        "Give a ViewCrafter .ckpt as released.",
    )  # fmt: skip
    return {name[len(_DEEPSPEED_PREFIX) :]: tensor for name, tensor in module.items()}
