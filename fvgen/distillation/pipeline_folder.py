"""What a pipeline folder holds: its settings and its components, read without the rest of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from fvgen.checks import InputError, complaint, require

INDEX = "model_index.json"
Component = TypeVar("Component")


def read_index(folder: Path) -> dict[str, Any]:
    """The ``model_index.json`` of a pipeline folder.

    Raises:
        InputError: there is none that can be read.
    """
    return read_settings(folder, INDEX)


def read_settings(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a pipeline folder.

    Raises:
        InputError: there is none that can be read.
    """
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        next_step = "Convert one with scripts/convert_viewcrafter.py, or train one with --preset tiny-teacher."
        raise InputError(complaint(str(folder), f"be a pipeline folder with {name}", error, next_step)) from error


def load_component(from_pretrained: Callable[..., Component], folder: Path) -> Component:
    """A component of a pipeline folder, never downloaded.

    Raises:
        InputError: the folder holds none, or its weights are not finite.
    """
    require(folder.is_dir(), str(folder), "be a folder of a saved component", "none", "Name a whole pipeline folder.")
    try:
        loaded = from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(complaint(str(folder), "hold a saved component", error, "Save it again.")) from error
    weights = loaded.state_dict() if isinstance(loaded, nn.Module) else {}
    spoilt = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    found = f"NaN or infinite values in {len(spoilt)} of {len(weights)} tensors, {', '.join(spoilt[:1])} the first"
    require(not spoilt, str(folder), "hold finite weights", found, "Convert, download or train it again.")
    return loaded
