"""What a training run is told on the command line: the preset's settings, and what no preset can know."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import tyro

from fvgen.checks import require
from fvgen.distillation.configs import PRESETS, Preset, PresetName
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.settings import NetworkConfig, TrainConfig

ObjectiveT = TypeVar("ObjectiveT", bound=Objective)


@dataclass(frozen=True, kw_only=True)
class Shared(Generic[ObjectiveT]):
    """What every run has."""

    preset: PresetName
    """Recipe with its settings"""
    data: Path
    """Folder of shards from scripts/prepare_clips.py"""
    output: Path
    """The run's folder: checkpoints, log.jsonl, TensorBoard, samples, and in the end the trained pipeline"""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")]
    objective: ObjectiveT
    views: int = 1
    """Ways in which each clip stored as pixels is seen: mirrored, backwards, cut elsewhere"""
    crop: tuple[int, int] | None = None
    """Height and width of a window cut from clips stored as pixels"""
    export: Literal["last", "best"] = "last"
    """Weights that are exported in the end; best: those with the smallest held-out error"""
    export_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the exported weights"""
    export_shard_size: str = "5GB"
    """Largest file of the exported weights"""
    memory_gib: float | None = None
    """Memory that the run may plan with; what the device has free when not given"""


@dataclass(frozen=True, kw_only=True)
class FromTeacher(Shared[ObjectiveT]):
    """Train a student from a teacher."""

    teacher: Path
    """Pipeline folder of the teacher"""
    init_student: Path | None = None
    """Pipeline folder that the student starts from; the teacher when not given"""
    init_discriminator: Path | None = None
    """Folder of a trained discriminator; the one beside --init-student when not given"""
    frame_teacher: Path | None = None
    """Folder of an image diffusion pipeline with the teacher's latents, for avdm2"""
    backbone: Literal["full", "shared"] = "full"
    """full: a network for each role; shared: one frozen network with an adapter for each role"""
    adapter_rank: int = 64
    """Of the shared backbone's adapters"""
    other_size: bool = False
    """Train at another height, width or number of frames than the teacher was trained on"""


@dataclass(frozen=True, kw_only=True)
class FromNothing(Shared[ObjectiveT]):
    """Train a teacher from nothing."""

    network: NetworkConfig
    """That is made"""


def parse(arguments: list[str], about: str) -> FromTeacher | FromNothing:
    """The command line, over the settings of the preset that it names; ``about`` is said first in the help.

    Raises:
        InputError: there is no such preset.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="fvgen-stage1")
    name = first.parse_known_args(arguments)[0].preset
    require(name in PRESETS, "preset", f"be one of {', '.join(PRESETS)}", name, "See --help.")
    preset: Preset = PRESETS[name]
    missing: Any = tyro.MISSING
    common: dict[str, Any] = {
        "preset": name if name in arguments or f"--preset={name}" in arguments else missing,
        "data": missing, "output": missing, "train": preset.train, "objective": preset.objective,
    }  # fmt: skip
    kind: Any = type(preset.objective)
    presets = "\n\n".join(f"{known:26} {entry.about}" for known, entry in PRESETS.items())
    text = f"{about}\n\npresets:\n\n{presets}"
    if preset.network is not None:
        nothing: Any = FromNothing(network=preset.network, **common)
        return tyro.cli(FromNothing[kind], default=nothing, args=arguments, description=text)
    student: Any = missing if preset.starts_from == "student" else None
    teacher: Any = FromTeacher(teacher=missing, init_student=student, **common)
    return tyro.cli(FromTeacher[kind], default=teacher, args=arguments, description=text)
