"""The folder of a saved `FVGenPipeline`: found, checked and told apart without loading it, and never downloaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvgen.checks import InputError, complaint, require
from fvgen.models.viewcrafter_variants import VARIANTS

NEEDS_MODEL: Mapping[str, str] = {"student": "few_step", "teacher": "ddim"}
"""Generators that need a model, and the sampler that theirs is saved with."""
CONVERTED = Path("models")
"""Where converted variants lie by their names, as ``scripts/convert_viewcrafter.py`` is shown to write them."""
BUNDLED = Path(__file__).parents[1] / "weights"
"""The small teacher and student that ship with the package; ``scripts/train_tiny.sh`` makes them anew."""
TINY = "tiny"
"""What either of them is named by."""
_INDEX = "model_index.json"
_SAMPLE = 1 << 16
"""Bytes of a weight file that are hashed at its start, middle and end: training moves every weight."""
_FIRST_TEACHER = "viewcrafter-512"
"""The variant that is meant where none is named."""
_NAME_FOLDER = "--pipeline.datamanager.densify.model FOLDER in ns-train, --model FOLDER in scripts/generate_views.py."
_GET_STUDENT = (
    "The bundled one is named tiny. One that you trained with scripts/train_distill.py is named by its folder: "
    + _NAME_FOLDER
)


def find_model(generator: str, model: str | Path | None = None) -> Path:
    """The checked pipeline folder for a generator.

    Args:
        generator: a name in `NEEDS_MODEL`.
        model: folder; or ``tiny`` for the bundled one; or name of a released variant that was converted into
            ``models``; or id of a hub repository that is in the local cache. None is the bundled student, and
            viewcrafter-512 for the teacher.

    Raises:
        InputError: there is no such model on this machine (the text names the commands that get one), or the folder is
            not a whole pipeline with this generator's sampler.
    """
    folder = locate_model(generator, model)
    if folder is None:
        next_step = _how_to_get(model) if generator == "teacher" else _GET_STUDENT
        given = f"{model}, which is not there" if model is not None else "no model"
        raise InputError(complaint(f"the generator {generator}", "have its weights on this machine", given, next_step))
    check_model(folder, generator)
    return folder


def _how_to_get(model: str | Path | None) -> str:
    """The commands that get a teacher: the released variant called ``model``, or the first one."""
    name = Path(model).as_posix() if model is not None and Path(model).as_posix() in VARIANTS else _FIRST_TEACHER
    file = f"checkpoints/{name}/{VARIANTS[name].file}"  # type: ignore[index]  # checked above
    return (
        f"Get it with: python scripts/download.py {name}, then python scripts/convert_viewcrafter.py {file} "
        f"models/{name} --variant {name}. The small bundled one is named tiny. A pipeline folder elsewhere is named "
        f"with {_NAME_FOLDER}"
    )


def locate_model(generator: str, model: str | Path | None = None) -> Path | None:
    """Where the model is, unchecked; None when it is not on this machine. Arguments as of `find_model`."""
    if model is None:
        model = _FIRST_TEACHER if generator == "teacher" else TINY
    name = Path(model).as_posix()
    if name == TINY:
        return BUNDLED / generator
    if Path(model).is_dir():
        return Path(model)
    if name in VARIANTS:
        return CONVERTED / name if (CONVERTED / name).is_dir() else None
    return _in_hub_cache(name)


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repository, _INDEX)
    except HFValidationError:  # a path, not an id
        return None
    return Path(found).parent if isinstance(found, str) else None


def check_model(folder: Path, generator: str) -> None:
    """Refuse a folder that is no whole `FVGenPipeline` with the generator's sampler; reads no weights.

    Raises:
        InputError: naming the file that is missing, damaged or of another kind.
    """
    again = "Convert or save the pipeline again, or name its folder."
    require((folder / _INDEX).is_file(), "model", f"be a pipeline folder with {_INDEX}", folder, again)
    index = _json(folder / _INDEX)
    require(
        index.get("_class_name") == "FVGenPipeline",
        "model",
        "be a saved FVGenPipeline",
        f"{index.get('_class_name')} in {folder}",
        again,
    )
    wanted = NEEDS_MODEL[generator]
    other = next((name for name, sampler in NEEDS_MODEL.items() if sampler == index.get("sampler")), None)
    require(
        index.get("sampler") == wanted,
        f"a {generator}'s model",
        f"be saved with the sampler {wanted}",
        f"{index.get('sampler')} in {folder}",
        f"Use the generator {other} with it." if other else again,
    )
    parts = {name: value for name, value in index.items() if isinstance(value, list) and value[0] is not None}
    missing = {"unet", "vae", "schedule"} - set(parts)
    require(not missing, "model", "have a unet, a vae and a schedule", f"none of {sorted(missing)} in {folder}", again)
    for name, (library, _) in parts.items():
        known = str(library).split(".")[0] in ("fvgen", "diffusers", "transformers")
        require(
            known,
            f"model component {name}",
            "come from fvgen, diffusers or transformers",
            library,
            "Loading it would run unknown code: name another folder.",
        )
        _check_component(folder / name)


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


def _check_component(folder: Path) -> None:
    again = "Convert or save the pipeline again."
    if (folder / "scheduler_config.json").is_file():
        _json(folder / "scheduler_config.json")
        return
    require((folder / "config.json").is_file(), "model", "have a config.json for every component", folder, again)
    _json(folder / "config.json")
    stored_names(folder)


def stored_names(folder: Path) -> set[str]:
    """Names of the tensors in a component's .safetensors files.

    Raises:
        InputError: there are none, a piece is missing, or a file is not as long as its header says.
    """
    again = "Convert or save the pipeline again."
    indexes = list(folder.glob("*.safetensors.index.json"))
    pieces = {name for path in indexes for name in _json(path)["weight_map"].values()}
    files = [folder / name for name in sorted(pieces)] or sorted(folder.glob("*.safetensors"))
    require(bool(files), "model", "have .safetensors weights for every component", folder, again)
    names: set[str] = set()
    for path in files:
        require(path.is_file(), "model", "have all pieces of its weights", f"no {path}", again)
        found = _names_if_whole(path)
        require(
            found is not None, "model weights", "be whole safetensors files", f"{path}, cut short or damaged", again
        )
        names |= found or set()
    return names


def _names_if_whole(path: Path) -> set[str] | None:
    """The tensors that the file's header lists; None when the file is not as long as the header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            return None
        try:
            header = json.loads(file.read(length))
            ends = {name: entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
    return set(ends) if 8 + length + max(ends.values(), default=0) == size else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = complaint("model", "have readable JSON settings", f"{path} ({error})", "Save the pipeline again.")
        raise InputError(text) from error
    require(isinstance(value, dict), "model", "have JSON objects as settings", path, "Save the pipeline again.")
    return value
