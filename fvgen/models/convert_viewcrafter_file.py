"""Opening a ViewCrafter checkpoint: both layouts of the file, memory-mapped, nothing in it executed."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require

_DEEPSPEED_PREFIX = "_forward_module."
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of torch before 1.6 begins: its magic number, pickled."""
_AS_RELEASED = "Give a ViewCrafter .ckpt as released."


def read_checkpoint(path: Path, trust_pickle: bool = False) -> dict[str, Tensor]:
    """The tensors of a ViewCrafter checkpoint under their Lightning names, mapped from the file and not yet read.

    Args:
        path: A Lightning file (tensors under ``state_dict``) or a DeepSpeed one (under ``module``, every name behind a
            prefix of 16 characters, older ones with ``framestride_embed`` for ``fps_embedding``).
        trust_pickle: Also open a file that holds more than tensors and plain values: Python code in it is then run.

    Raises:
        InputError: The file is missing, damaged, of before torch 1.6, of neither layout, needs ``trust_pickle``, or
            with it a package that is not installed.
    """
    require(path.is_file(), "CKPT", "be a file", path, "fvgen download fetches the released ones.")
    require(os.access(path, os.R_OK), "CKPT", "be readable", path, "Give yourself the right to read it.")
    with path.open("rb") as file:
        begins = file.read(len(_LEGACY_MAGIC))
    require(
        begins != _LEGACY_MAGIC,
        "CKPT",
        "be in torch's zip format",
        f"{path} in the format from before torch 1.6",
        "It cannot be memory-mapped: load it and save it again with torch.save of a current torch.",
    )
    require(
        zipfile.is_zipfile(path),
        "CKPT",
        "be a whole torch file",
        f"{path} ({path.stat().st_size:,} bytes)",
        "It was cut short or is no checkpoint: download it again; fvgen download goes on where it stopped.",
    )
    content = _load(path, trust_pickle)
    require(
        isinstance(content, dict) and ("state_dict" in content or "module" in content),
        "CKPT",
        "hold 'state_dict' (Lightning) or 'module' (DeepSpeed)",
        sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__,
        _AS_RELEASED,
    )
    key = "state_dict" if "state_dict" in content else "module"
    tensors = _named_tensors(content[key], key)
    if key == "module":
        tensors = _without_deepspeed_prefix(tensors)
    return _with_current_names(tensors)


def _named_tensors(found: Any, key: str) -> dict[str, Tensor]:
    require(isinstance(found, dict), f"CKPT's {key!r}", "map names to tensors", type(found).__name__, _AS_RELEASED)
    unnamed = [name for name in found if not isinstance(name, str)]
    require(not unnamed, f"CKPT's {key!r}", "have names that are text", unnamed[:3], _AS_RELEASED)
    others = [name for name, value in found.items() if not isinstance(value, Tensor)]
    require(not others, f"CKPT's {key!r}", "hold tensors only", others[:3], _AS_RELEASED)
    return found


def _with_current_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    current = {name: name.replace("framestride_embed", "fps_embedding") for name in tensors}
    twice = [name for name, new in current.items() if name != new and new in tensors]
    require(
        not twice, "CKPT", "hold each tensor under its old name or its new one", f"{twice[:3]} under both", _AS_RELEASED
    )
    return {current[name]: tensor for name, tensor in tensors.items()}


def _load(path: Path, trust_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        # torch words it "GLOBAL module.Class was not an allowed global"; its other messages are about damaged bytes.
        named = None if trust_pickle else re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise _not_whole(path, error) from error
        advice = (
            "--trust-pickle loads it all the same and with that RUNS whatever code the file carries, with your rights: "
            "give it only for a file whose origin you trust."
        )
        found = f"{path.name} with objects of {named[1]}"
        raise InputError(complaint("CKPT", "hold tensors and plain values only", found, advice)) from error
    except (ImportError, AttributeError) as error:  # only a trusted pickle looks for its classes
        found = f"{path.name} with objects of another package ({error})"
        advice = (
            "Install the package it names into this environment, in the version that wrote the file, and try again."
        )
        raise InputError(
            complaint("CKPT", "hold objects of packages that are installed here", found, advice)
        ) from error
    except (RuntimeError, EOFError, OSError, LookupError, ValueError) as error:  # a damaged pickle raises any of them
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> InputError:
    # Around what it met torch writes paragraphs that advise weights_only=False, which would not help here.
    met = re.sub(r"(?s).*WeightsUnpickler error:\s*|\n.*", "", str(error))
    return InputError(complaint("CKPT", "be a whole torch file", f"{path} ({met})", "Download it again."))


def _without_deepspeed_prefix(module: dict[str, Tensor]) -> dict[str, Tensor]:
    others = [name for name in module if not name.startswith(_DEEPSPEED_PREFIX)]
    require(
        not others,
        "CKPT",
        f"prefix every name under 'module' with {_DEEPSPEED_PREFIX!r}",
        others[:3],
        _AS_RELEASED,
    )
    return {name[len(_DEEPSPEED_PREFIX) :]: tensor for name, tensor in module.items()}
