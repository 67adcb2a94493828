"""Where the pipeline folder of a generator is: bundled, converted, named by a path, or in the hub's local cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fvgen.checks import InputError, complaint, require
from fvgen.models.folder import INDEX, check_folder, read_settings
from fvgen.models.viewcrafter_variants import VARIANTS

NEEDS_MODEL: Mapping[str, str] = {"student": "few_step", "teacher": "ddim"}
"""Generators that need a model, and the sampler that theirs is saved with."""
CONVERTED = Path("models")
"""Where converted variants lie by their names, as ``fvgen convert`` writes them."""
BUNDLED = Path(__file__).parents[1] / "weights"
"""The small teacher and student that ship with the package; ``scripts/train_tiny.sh`` makes them anew."""
TINY = "tiny"
"""The name of the bundled models."""

_FIRST_TEACHER = "viewcrafter-512"
"""The variant that is meant where none is named."""
_NAME_FOLDER = "--pipeline.datamanager.densify.model FOLDER in ns-train, --model FOLDER in fvgen views."
_GET_STUDENT = (
    "The bundled one is named tiny. One that you trained with fvgen distill is named by its folder: " + _NAME_FOLDER
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
    check_folder(folder)
    sampler, wanted = read_settings(folder).get("sampler"), NEEDS_MODEL[generator]
    other = next((name for name, its in NEEDS_MODEL.items() if its == sampler), None)
    require(
        sampler == wanted,
        f"a {generator}'s model",
        f"be saved with the sampler {wanted}",
        f"{sampler} in {folder}",
        f"Use the generator {other} with it." if other else "Convert or train it again, or name another folder.",
    )
    return folder


def _how_to_get(model: str | Path | None) -> str:
    """The commands that get a teacher: the released variant called ``model``, or the first one."""
    name = Path(model).as_posix() if model is not None and Path(model).as_posix() in VARIANTS else _FIRST_TEACHER
    file = f"checkpoints/{name}/{VARIANTS[name].file}"  # type: ignore[index]  # checked above
    return (
        f"Get it with: fvgen download {name}, then fvgen convert {file} "
        f"models/{name} --variant {name}. The small bundled one is named tiny. A pipeline folder elsewhere is named "
        f"with {_NAME_FOLDER}"
    )


def locate_model(generator: str, model: str | Path | None = None) -> Path | None:
    """Where the model is, unchecked; None when it is not on this machine. Arguments as in `find_model`."""
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
        found = try_to_load_from_cache(repository, INDEX)
    except HFValidationError:  # a path, not an id
        return None
    return Path(found).parent if isinstance(found, str) else None
