"""The networks that a run starts with, from pipeline folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.image_model import load_image_model
from fvgen.distillation.roles import Backbone, Roles, build_roles
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.folder import load_component, read_settings
from fvgen.models.unet_3d import VideoUNet


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
    read_settings(start.teacher)
    if start.student is not None:
        read_settings(start.student)
    student, trained = start.student, start.discriminator
    judge = None if trained is None else load_component(ClipDiscriminator, trained)
    frame_teacher, frame_schedule = (
        (None, None) if start.frame_teacher is None else load_image_model(start.frame_teacher)
    )
    return build_roles(
        objective,
        load_component(VideoUNet, start.teacher / "unet"),
        load_component(NoiseSchedule, start.teacher / "schedule"),
        backbone=start.backbone,
        student=None if student is None else load_component(VideoUNet, student / "unet"),
        discriminator=judge,
        frame_teacher=frame_teacher,
        frame_schedule=frame_schedule,
        adapter_rank=start.adapter_rank,
        seed=seed,
    )
