"""A pipeline folder: how it is read, checked, loaded and written. `fvgen.models.find` says where it is.

It has the layout of diffusers' ``save_pretrained``: ``model_index.json`` with the pipeline's settings and the class of
every component, and for each component a folder with its own settings and its weights in safetensors files.
Nothing is downloaded here, and no pickle is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require
from fvgen.files import whole_folder, write_json

INDEX = "model_index.json"
_CLASS = "FVGenPipeline"
_LIBRARIES = ("fvgen", "diffusers", "transformers")
_SCHEDULER = "scheduler_config.json"
_SAMPLE = 1 << 16
"""Bytes of a weight file that are hashed at its start, middle and end: training moves every weight."""
_ALIGNMENT = 64
"""Bytes; what torch's own allocator on the CPU aligns to."""
_AGAIN = "Convert, download or train it again, or name another folder."


def read_settings(folder: Path, name: str = INDEX) -> dict[str, Any]:
    """A JSON file of a pipeline folder; its index when no other is named.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(complaint(f"model {folder}", f"be a pipeline folder with {name}", "none", _AGAIN)) from error
    except (OSError, ValueError) as error:
        text = complaint(f"model {folder}", "have readable JSON settings", f"{name} ({error})", _AGAIN)
        raise InputError(text) from error
    require(isinstance(value, dict), f"model {folder}", "have JSON objects as settings", name, _AGAIN)
    return value


def component_classes(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Name of every component in an index -> library or module, and class."""
    pairs = {name: part for name, part in index.items() if isinstance(part, list) and len(part) == 2}
    # Two timesteps are a list of two, too.
    return {name: (library, str(kind)) for name, (library, kind) in pairs.items() if isinstance(library, str)}


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no whole `FVGenPipeline`; reads no weights.

    Raises:
        InputError: naming the file that is missing, damaged or of another kind.
    """
    index = read_settings(folder)
    kind = index.get("_class_name")
    require(kind == _CLASS, "model", f"be a saved {_CLASS}", f"{kind} in {folder}", _AGAIN)
    parts = component_classes(index)
    missing = sorted({"unet", "vae", "schedule"} - set(parts))
    require(not missing, "model", "have a unet, a vae and a schedule", f"none of {missing} in {folder}", _AGAIN)
    for name, (library, _) in parts.items():
        require(
            library.split(".")[0] in _LIBRARIES,
            f"model component {name}",
            "come from fvgen, diffusers or transformers",
            library,
            "Loading it would run unknown code: name another folder.",
        )
        if (folder / name / _SCHEDULER).is_file():
            read_settings(folder / name, _SCHEDULER)
            continue
        described = (folder / name / "config.json").is_file()
        require(described, "model", "have a config.json for every component", folder / name, _AGAIN)
        read_settings(folder / name, "config.json")
        stored_names(folder / name)


def stored_names(component: Path) -> set[str]:
    """Names of the tensors in a component's .safetensors files.

    Raises:
        InputError: there are none, a piece is missing, or a file is cut short or damaged.
    """
    return {name for path in weight_files(component) for name in _names_in(path)}


def weight_files(component: Path) -> list[Path]:
    """The .safetensors files of a component: one, or the pieces that its index names.

    Raises:
        InputError: there are none, or a piece is missing.
    """
    indexes = [path.name for path in component.glob("*.safetensors.index.json")]
    pieces = {name for index in indexes for name in read_settings(component, index).get("weight_map", {}).values()}
    files = [component / name for name in sorted(pieces)] or sorted(component.glob("*.safetensors"))
    require(bool(files), "model", "have .safetensors weights for every component", f"none in {component}", _AGAIN)
    for path in files:
        require(path.is_file(), "model", "have all pieces of its weights", f"no {path}", _AGAIN)
    return files


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, mapped from it and not yet read.

    Raises:
        InputError: the file is missing, cut short or damaged.
    """
    _names_in(path)
    return load_file(path)


def _names_in(path: Path) -> list[str]:
    try:
        with safe_open(path, "np") as file:  # compares the header with the file's length
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        found = f"{path}, cut short or damaged ({error})"
        raise InputError(complaint("model weights", "be whole safetensors files", found, _AGAIN)) from error


def model_fingerprint(folder: Path) -> str:
    """Hash of the folder's settings, and of size and samples of its weight files: another after training or editing."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size} ".encode())
        with path.open("rb") as file:
            for start in sorted({0, max(size // 2 - _SAMPLE // 2, 0), max(size - _SAMPLE, 0)}):
                file.seek(start)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


# ---- loading ---------------------------------------------------------------------------------------------------------


def load_component(kind: Any, folder: Path) -> Any:
    """A component of a pipeline folder, with all of its weights.

    Args:
        kind: the component's class in diffusers, transformers or fvgen.
        folder: the component's own.

    Raises:
        InputError: the folder holds no such component, or its weights are missing, damaged or not finite.
    """
    require(folder.is_dir(), f"model {folder}", "be a folder of a saved component", "none", "Name a whole folder.")
    if not (folder / _SCHEDULER).is_file():
        weight_files(folder)  # or diffusers would look for pickled ones
    try:
        loaded = kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(complaint(f"model {folder}", "hold a saved component", error, _AGAIN)) from error
    align_weights(loaded)
    check_loaded(loaded, folder)
    return loaded


def check_loaded(network: nn.Module, folder: Path) -> None:
    """Refuse a network that was loaded from ``folder`` without all of its weights, or with NaN or infinite ones.

    Raises:
        InputError: weights are missing (diffusers only warns of that) or not finite.
    """
    weights = network.state_dict()
    if not weights:  # a schedule
        return
    stored = {_short(name) for name in stored_names(folder)}
    missing = [name for name in weights if _short(name) not in stored]
    lacking = f"none for {', '.join(missing[:3])} ({len(missing)} in all)"
    require(not missing, f"model {folder}", "have weights that fit its settings", lacking, _AGAIN)
    spoilt = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    found = f"NaN or infinite values in {len(spoilt)} of {len(weights)} tensors, {', '.join(spoilt[:1])} the first"
    require(not spoilt, f"model {folder}", "hold finite weights", found, _AGAIN)


def _short(name: str) -> str:
    """A tensor's name without the prefix that some versions of transformers put before a CLIP tower's."""
    return re.sub(r"^(text|vision)_model\.", "", name)


def align_weights(network: nn.Module) -> None:
    """Move weights on the CPU to where torch itself would put them, one tensor at a time.

    Weights that are mapped from a safetensors file begin at any multiple of their dtype's size. Convolutions on CPUs
    then add in another order, and the same network gives other last bits than before it was saved. Time is the same.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


# ---- writing ---------------------------------------------------------------------------------------------------------


class FolderWriter:
    """The components of a pipeline folder, written one after the other (see `new_folder`)."""

    def __init__(
        self, path: Path, sampler: str, residual: Mapping[str, float] | None, timesteps: Sequence[int] | None
    ) -> None:
        self.path = path
        self._index: dict[str, Any] = {
            "_class_name": _CLASS,
            "_diffusers_version": version("diffusers"),
            "sampler": sampler,
            "residual": residual,
            "timesteps": None if timesteps is None else list(timesteps),
        }

    def add(self, name: str, component: Any, max_shard_size: str = "5GB") -> None:
        """Save a component of diffusers, transformers or fvgen, in files of at most this size."""
        sizes = {"max_shard_size": max_shard_size} if component.state_dict() else {}
        component.save_pretrained(self.path / name, **sizes)
        module = type(component).__module__
        library = module.split(".")[0]
        self._index[name] = [module if library == "fvgen" else library, type(component).__name__]
        config = self.path / name / "config.json"
        if config.is_file():  # diffusers notes where a network was loaded from: a path of this machine
            settings = read_settings(self.path / name, "config.json")
            settings.pop("_name_or_path", None)
            write_json(config, settings)

    def copy(self, source: Path, without: str | None = None) -> None:
        """Take over the components of another pipeline folder as they are, all or all but one.

        Raises:
            InputError: that folder is no pipeline's.
        """
        for name, library_and_class in component_classes(read_settings(source)).items():
            if name != without:
                shutil.copytree(source / name, self.path / name)
                self._index[name] = list(library_and_class)

    def write_index(self) -> None:
        """Write ``model_index.json``: the folder is complete."""
        if "unet" in self._index:
            self._index["frames"] = read_settings(self.path, "unet/config.json").get("sample_frames")
        write_json(self.path / INDEX, dict(sorted(self._index.items())))


@contextmanager
def new_folder(
    path: Path,
    sampler: str,
    residual: Mapping[str, float] | None = None,
    timesteps: Sequence[int] | None = None,
) -> Iterator[FolderWriter]:
    """Give a writer for a pipeline folder that is there whole afterwards, or not at all.

    Args:
        path: the folder; an older one there is replaced.
        sampler: ``few_step`` for a distilled student, ``ddim`` for a teacher.
        residual: fields of the `ResidualSpace` of a network that corrects warps; None for others.
        timesteps: largest first, that a student was trained at; None where the sampler spaces them evenly.

    Raises:
        OSError: it cannot be written. After this or any other error ``path`` is as it was.
    """
    with whole_folder(path) as unfinished:
        writer = FolderWriter(unfinished, sampler, residual, timesteps)
        yield writer
        writer.write_index()
