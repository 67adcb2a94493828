"""The command line of a training run: a preset's settings, and what no preset can know."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import tyro

from fvgen.checks import require
from fvgen.distillation.configs import PRESETS, Preset, PresetName
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.settings import Backbone, NetworkConfig, Sampler, TrainConfig

ObjectiveT = TypeVar("ObjectiveT", bound=Objective)


@dataclass(frozen=True, kw_only=True)
class Shared(Generic[ObjectiveT]):
    """Options of every run."""

    result: ClassVar[Literal["student", "teacher"]]
    """What the run trains, and the folder that it is exported to."""
    sampler: ClassVar[Sampler]
    """How that is sampled."""

    preset: PresetName
    """Recipe with its settings."""
    data: Path
    """Folder of clips that fvgen clips wrote."""
    output: Path
    """Folder of the run: checkpoints, log.jsonl, TensorBoard, samples, and in the end the trained pipeline."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")]
    objective: ObjectiveT
    views: int = 1
    """Ways in which each clip is seen: mirrored, backwards, cut elsewhere (clips stored as pixels only)."""
    crop: tuple[int, int] | None = None
    """Height and width of a window that is cut from each clip (clips stored as pixels only)."""
    export: Literal["last", "best"] = "last"
    """Weights that are exported: the last ones, or those with the smallest held-out error."""
    export_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the exported weights."""
    export_shard_size: str = "5GB"
    """Size limit of each exported weight file, such as 5GB or 200MB."""
    memory_gib: float | None = None
    """Memory in GiB that the run may plan with. None takes what the device has free."""

    def check(self) -> None:
        """Raise `InputError` for what is wrong in itself."""
        size, memory = self.export_shard_size, self.memory_gib
        whole = re.fullmatch(r"\d+[KMGT]B", size) is not None
        require(whole, "export_shard_size", "be like 5GB or 200MB", size, "Mind the unit.")
        require(memory is None or memory > 0, "memory_gib", "be positive", memory, "Leave it out for what is free.")
        best = self.export != "best" or self.train.held_out > 0
        require(best, "export", "be last without held-out clips", self.export, "Keep some with --held-out.")


@dataclass(frozen=True, kw_only=True)
class FromTeacher(Shared[ObjectiveT]):
    """Train a student from a teacher."""

    result = "student"
    sampler = "few_step"

    teacher: Path
    """Pipeline folder of the teacher."""
    init_student: Path | None = None
    """Pipeline folder that the student starts from. None starts from the teacher."""
    init_discriminator: Path | None = None
    """Folder of a trained discriminator. None takes the one beside --init-student."""
    frame_teacher: Path | None = None
    """Folder of an image diffusion pipeline with the teacher's latents, for avdm2."""
    backbone: Backbone = "full"
    """Memory of the roles: a full network for each, or one shared frozen network with an adapter for each."""
    adapter_rank: int = 64
    """Rank of the adapters of a shared backbone."""
    other_size: bool = False
    """Train at another height, width or number of frames than the teacher was trained on."""


@dataclass(frozen=True, kw_only=True)
class FromNothing(Shared[ObjectiveT]):
    """Train a teacher from nothing."""

    result = "teacher"
    sampler = "ddim"

    network: NetworkConfig
    """Architecture of the new network."""


def parse(arguments: Sequence[str], about: str, program: str | None = None) -> FromTeacher | FromNothing:
    """The options of a command line, whose defaults are the settings of the preset that it names.

    Args:
        arguments: the command line without the command.
        about: the first part of the help.
        program: name of the command in the help; None for this process's.

    Raises:
        InputError: there is no such preset, or a setting is out of its bounds.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="fvgen-stage1")
    name = first.parse_known_args(arguments)[0].preset
    require(name in PRESETS, "preset", f"be one of {', '.join(PRESETS)}", name, "See --help.")
    preset: Preset = PRESETS[name]
    missing: Any = tyro.MISSING
    common: dict[str, Any] = {
        "preset": name if name in arguments or f"--preset={name}" in arguments else missing,
        "data": missing,
        "output": missing,
        "train": preset.train,
        "objective": preset.objective,
    }
    kind: Any = type(preset.objective)
    presets = "\n\n".join(f"{known:26} {entry.about}" for known, entry in PRESETS.items())
    text = f"{about}\n\npresets:\n\n{presets}"
    default: Any
    if preset.network is not None:
        default = FromNothing(network=preset.network, **common)
    else:
        student: Any = missing if preset.starts_from == "student" else None
        default = FromTeacher(teacher=missing, init_student=student, **common)
    options: Any = tyro.cli(type(default)[kind], prog=program, default=default, args=arguments, description=text)
    options.check()  # not on construction, where tyro makes several lines of what is wrong
    return options
