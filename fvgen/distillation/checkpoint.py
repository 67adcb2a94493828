"""Checkpoints: one folder holds everything that resumes, and it is there whole or not at all.

Random numbers and the position in the data follow from (seed, step) alone (see `fvgen.distillation.randomness`), so
neither is stored. What is loaded is copied into memory that torch has allocated, as in a run that was never broken off:
CPU kernels may add in another order where memory is aligned in another way, as in a file that is mapped.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require
from fvgen.distillation.parallel import Processes, split_like, whole
from fvgen.distillation.settings import config_hash
from fvgen.files import UNFINISHED, read_json, sha256, whole_folder, write_json

CHECKPOINTS = "checkpoints"
"""Folder of a run's checkpoints, inside its own."""
_STATE = "state.json"
_BEST = "best.json"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; the ones before it are untouched."""


@dataclass
class TrainState:
    """Everything that resumes, named once."""

    trained: Mapping[str, nn.Module]
    """Modules by role: their parameters that require gradients, and their persistent buffers (running means)."""
    optimizers: Mapping[str, torch.optim.Optimizer]
    """Optimizers by role; roles without parameters have none."""
    ema: dict[str, Tensor] = field(default_factory=dict)
    """Averages of the student's trained parameters by name; empty for none."""
    step: int = 0
    """Updates of the student that are done."""
    best: float | None = None
    """Smallest held-out error so far."""


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """A role's parameters that are trained, by name, in the module's order."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def save(
    folder: Path, state: TrainState, settings: Mapping[str, Any], keep: int, processes: Processes, best: bool = False
) -> Path:
    """Write ``folder/step-NNNNNNNN`` and drop older ones; all processes must call.

    Args:
        folder: of the run's checkpoints.
        state: what resumes.
        settings: the run's `identity`.
        keep: how many of the newest are kept, beside the best one.
        processes: the main one writes.
        best: whether this is the best one so far.

    Raises:
        CheckpointError: the disk is full or cannot be written; earlier checkpoints are as they were.
    """
    path = folder / f"step-{state.step:08d}"
    gathered = _gathered(state, processes.main)

    def write() -> None:
        try:
            with whole_folder(path, durable=True) as unfinished:
                _write(unfinished, gathered, state, settings)
            if best:
                write_json(folder / _BEST, {"checkpoint": path.name, "held_out_error": state.best}, durable=True)
        except (OSError, SafetensorError) as error:
            last = latest(folder)
            kept = f"{last} is whole" if last else "there is none before it"
            next_step = f"Free disk space and start the same command again: {kept}."
            raise CheckpointError(complaint(f"checkpoint {path}", "be written whole", error, next_step)) from error
        finally:
            _exhaust(gathered)
        _rotate(path, keep)

    if not processes.main:
        _exhaust(gathered)
    processes.on_main(write)
    return path


def _gathered(state: TrainState, kept: bool) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The files of a checkpoint with whole tensors, on the CPU; every process must go through all.

    Where they are not ``kept`` the dictionaries are empty: a GPU never holds more than one whole tensor beside its own.
    """
    for name, tensors in _files(state):
        gathered = ((key, whole(tensor.detach())) for key, tensor in tensors.items())
        yield name, {key: tensor.cpu() for key, tensor in gathered if kept}


def _exhaust(gathered: Iterator[Any]) -> None:
    for _ in gathered:
        pass


def _write(
    folder: Path, gathered: Iterator[tuple[str, dict[str, Tensor]]], state: TrainState, settings: Mapping[str, Any]
) -> None:
    """The files of a checkpoint, and a record of them by which damage is found."""
    files: dict[str, Any] = {}
    for name, tensors in gathered:
        path = folder / name
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    record = {
        "step": state.step,
        "best": state.best,
        "config_hash": config_hash(dict(settings)),
        "settings": settings,
        "files": files,
    }
    write_json(folder / _STATE, record)


def _files(state: TrainState) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every file of a checkpoint and its tensors, one file at a time: whole networks do not fit in memory twice."""
    for role, module in state.trained.items():
        yield f"{role}.safetensors", _module_tensors(module)
        if role in state.optimizers:
            yield f"{role}.optimizer.safetensors", _optimizer_tensors(module, state.optimizers[role])
    if state.ema:
        yield "ema.safetensors", state.ema


def _module_tensors(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: tensor for name, tensor in module.state_dict().items() if name not in frozen}


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its state as ``parameter/entry``: names outlive orders and splits."""
    tensors = {}
    for name, parameter in trained_parameters(module).items():
        for entry, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{entry}"] = torch.as_tensor(value)
    return tensors


def load(path: Path, state: TrainState, settings: Mapping[str, Any]) -> None:
    """Put a checkpoint's contents into ``state``; every process reads for itself.

    Raises:
        InputError: it belongs to a run with other settings (the text names them), or to other networks.
    """
    record = json.loads((path / _STATE).read_text(encoding="utf-8"))
    if record["config_hash"] != config_hash(dict(settings)):
        differing = ", ".join(_differences(record["settings"], json.loads(json.dumps(settings))))
        next_step = "Use this run's own settings, or another --output."
        raise InputError(complaint("settings", f"equal those of {path}", differing, next_step))
    with torch.no_grad():
        for name, tensors in _files(state):
            with safe_open(path / name, "pt") as file:
                if name.endswith(".optimizer.safetensors"):
                    role = name.removesuffix(".optimizer.safetensors")
                    _load_optimizer(state.trained[role], state.optimizers[role], file)
                    continue
                require(
                    set(file.keys()) == set(tensors),
                    str(path / name),
                    "hold this run's tensors",
                    _first_differences(set(file.keys()), set(tensors)),
                    "Use the networks that the run was started with.",
                )
                for key, tensor in tensors.items():
                    tensor.copy_(split_like(file.get_tensor(key).to(tensor.device), tensor))
    state.step, state.best = record["step"], record["best"]


def _load_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, file: Any) -> None:
    parameters = trained_parameters(module)
    entries: dict[str, dict[str, Tensor]] = {}
    for key in file.keys():  # noqa: SIM118 (no mapping)
        name, entry = key.rsplit("/", 1)
        value = file.get_tensor(key).clone()  # out of the mapped file, see above
        # Moments are split as their parameter is; counters are not.
        same = value.shape == parameters[name].shape and value.ndim > 0
        entries.setdefault(name, {})[entry] = (
            split_like(value.to(parameters[name].device), parameters[name]) if same else value
        )
    names = {parameter: name for name, parameter in parameters.items()}
    order = [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    stored = optimizer.state_dict()
    stored["state"] = {i: entries[name] for i, name in enumerate(order) if name in entries}
    optimizer.load_state_dict(stored)


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint in ``folder``; damaged and half-written ones are passed over with a warning.

    Raises:
        InputError: there is a file in the folder's place.
    """
    require(folder.is_dir() or not folder.exists(), str(folder), "be a folder", "a file", "Name another --output.")
    found = sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []
    for left in folder.glob(f".step-*{UNFINISHED}") if folder.is_dir() else ():
        warnings.warn(f"{left} was never finished and is passed over.", stacklevel=2)
    for path in found:
        problem = damage(path)
        if problem is None:
            return path
        warnings.warn(f"checkpoint {path} is not whole ({problem}) and is passed over.", stacklevel=2)
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint's files; None when they are as they were written."""
    try:
        files = json.loads((path / _STATE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{_STATE}: {error}"
    for name, facts in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if (path / name).stat().st_size != facts["bytes"]:
            return f"{name} has {(path / name).stat().st_size} bytes instead of {facts['bytes']}"
        if sha256(path / name) != facts["sha256"]:
            return f"{name} has another checksum"
    return None


def best(folder: Path) -> Path | None:
    """The checkpoint with the smallest held-out error, if any was measured."""
    name = (read_json(folder / _BEST) or {}).get("checkpoint")
    return None if name is None else folder / name


def exported(folder: Path, which: Literal["last", "best"]) -> Path:
    """The whole checkpoint in ``folder`` whose weights are to be exported.

    Raises:
        InputError: there is none.
    """
    if which == "last":
        path, problem = latest(folder), "none that is whole"
        next_step = "Start the command again with another --output: nothing can be exported from this one."
    else:
        path = best(folder)
        damaged = "no held-out error was measured" if path is None else damage(path)
        path, problem = (None, f"'{damaged}'") if damaged else (path, "")
        next_step = "Use --export last."
    if path is None:
        raise InputError(complaint(str(folder), f"hold the {which} checkpoint for the export", problem, next_step))
    return path


def _rotate(written: Path, keep: int) -> None:
    """Keep the newest up to the one just written; higher numbers are damaged ones that `latest` passed over."""
    folder = written.parent
    found = sorted(folder.glob("step-*"), reverse=True)
    newer = [path for path in found if path.name > written.name]
    old = [path for path in found if path.name <= written.name][keep:]
    for path in [*newer, *(path for path in old if path != best(folder))]:
        shutil.rmtree(path, ignore_errors=True)


def _differences(old: Any, new: Any, name: str = "") -> Iterator[str]:
    """``name NEW (there: OLD)`` for every setting that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} {new} (there: {old})"


def _first_differences(there: set[str], here: set[str]) -> str:
    more, fewer = sorted(there - here), sorted(here - there)
    return f"{len(more)} more {more[:2]} and {len(fewer)} fewer {fewer[:2]}"
