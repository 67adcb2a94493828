"""The networks that a run starts with, from pipeline folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

from fvgen.checks import InputError, complaint, require
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.export import read_index
from fvgen.distillation.roles import Backbone, Roles, build_roles
from fvgen.models.codec import Codec, SpaceToDepth, codec_for
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.unet_3d import VideoUNet

Network = TypeVar("Network")
_CODECS = {kind.__name__: kind for kind in (AutoencoderKL, AutoencoderTiny, SpaceToDepth)}


@dataclass(frozen=True)
class Start:
    """Where a run's networks come from, and how they share memory."""

    teacher: Path
    """pipeline folder"""
    student: Path | None = None
    """pipeline folder; None to start as the teacher"""
    discriminator: Path | None = None
    """folder of a trained `ClipDiscriminator`; None for a new one, where the recipe trains it"""
    frame_teacher: Path | None = None
    """folder of an image diffusion pipeline that shares the latents, for AVDM2"""
    backbone: Backbone = "full"
    adapter_rank: int = 64
    """of the shared backbone's adapters"""

    def folders(self) -> dict[str, Path]:
        """The folders of weights, by what starts from them."""
        found = {
            "teacher": self.teacher,
            "student": self.student,
            "discriminator": self.discriminator,
            "frame_teacher": self.frame_teacher,
        }
        return {name: folder for name, folder in found.items() if folder is not None}


def start_roles(objective: Any, start: Start, seed: int) -> Roles:
    """The roles that an objective needs, with the weights that the run starts with.

    Raises:
        InputError: a folder is missing or holds something else, or the networks do not fit together.
    """
    read_index(start.teacher)
    if start.student is not None:
        read_index(start.student)
    student, discriminator = start.student, start.discriminator
    frame_teacher, frame_schedule = _image_model(start.frame_teacher)
    return build_roles(
        objective,
        _load(VideoUNet.from_pretrained, start.teacher / "unet"),
        _load(NoiseSchedule.from_pretrained, start.teacher / "schedule"),
        backbone=start.backbone,
        student=None if student is None else _load(VideoUNet.from_pretrained, student / "unet"),
        discriminator=None if discriminator is None else _load(ClipDiscriminator.from_pretrained, discriminator),
        frame_teacher=frame_teacher,
        frame_schedule=frame_schedule,
        adapter_rank=start.adapter_rank,
        seed=seed,
    )  # fmt: skip


def _image_model(folder: Path | None) -> tuple[Any, NoiseSchedule | None]:
    """The 2D network and the noise schedule of a diffusers pipeline such as Stable Diffusion's."""
    if folder is None:
        return None, None
    config = folder / "scheduler" / "scheduler_config.json"
    require(config.is_file(), "frame_teacher", f"hold {config.relative_to(folder)}", folder, "Name an image pipeline.")
    noise = json.loads(config.read_text(encoding="utf-8"))
    require(
        noise.get("beta_schedule") == "scaled_linear",
        "frame_teacher", "have scaled_linear betas", noise.get("beta_schedule"), "Use one of Stable Diffusion's kind.",
    )  # fmt: skip
    known = ("num_train_timesteps", "beta_start", "beta_end")
    schedule = NoiseSchedule(
        **{name: noise[name] for name in known}, rescale_to_zero_snr=noise.get("rescale_betas_zero_snr", False)
    )
    return _load(UNet2DConditionModel.from_pretrained, folder / "unet"), schedule


def load_codec(folder: Path) -> Codec:
    """The codec of a pipeline folder, without the rest of it.

    Raises:
        InputError: there is none that is known.
    """
    kind = read_index(folder)["vae"][1]
    require(kind in _CODECS, "vae", f"be one of {sorted(_CODECS)}", kind, "Use another teacher.")
    return codec_for(_load(_CODECS[kind].from_pretrained, folder / "vae").eval(), chunk=4)


def _load(from_pretrained: Callable[..., Network], folder: Path) -> Network:
    require(folder.is_dir(), str(folder), "be a folder of a saved component", "none", "Name a whole pipeline folder.")
    try:
        return from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise InputError(complaint(str(folder), "hold a saved component", error, "Save it again.")) from error
