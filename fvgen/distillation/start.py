"""The networks that a run starts with: built for a recipe, from pipeline folders or from given modules."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fvgen.checks import InputError, complaint, require
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.adapters import AdaptedNetwork, SharedBackbone
from fvgen.distillation.density_ratio import DensityRatio
from fvgen.distillation.image_model import load_image_model
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.roles import Roles
from fvgen.distillation.settings import Backbone
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.discriminator_heads import Head
from fvgen.models.folder import load_component, read_settings
from fvgen.models.unet_3d import VideoUNet


@dataclass(frozen=True)
class Start:
    """Where a run's networks come from, and how they share memory."""

    teacher: Path
    """Pipeline folder."""
    student: Path | None = None
    """Pipeline folder; None to start as the teacher."""
    discriminator: Path | None = None
    """Folder of a trained `ClipDiscriminator`; None for a new one, where the recipe trains it."""
    frame_teacher: Path | None = None
    """Folder of an image diffusion pipeline that shares the latents, for AVDM2."""
    backbone: Backbone = "full"
    adapter_rank: int = 64
    """Rank of the adapters of a shared backbone."""

    def folders(self) -> dict[str, Path]:
        """The folders of weights, by what starts from them."""
        found = {
            "teacher": self.teacher,
            "student": self.student,
            "discriminator": self.discriminator,
            "frame_teacher": self.frame_teacher,
        }
        return {name: folder for name, folder in found.items() if folder is not None}


def build_roles(
    objective: Objective,
    teacher: Any,
    schedule: NoiseSchedule,
    *,
    backbone: Backbone = "full",
    student: nn.Module | None = None,
    discriminator: nn.Module | None = None,
    frame_teacher: nn.Module | None = None,
    frame_schedule: NoiseSchedule | None = None,
    adapter_rank: int = 64,
    seed: int = 0,
) -> Roles:
    """The roles that an objective needs, all but the teacher's starting as the teacher.

    Args:
        objective: names the roles that it ``needs`` and ``trains``, and the features that its discriminator sees.
        teacher: a `VideoUNet`; it is used as it is and frozen.
        schedule: the teacher's.
        backbone: copies of the teacher ("full"), or the teacher with an adapter for each role ("shared").
        student: weights to start the student from; None for the teacher's.
        discriminator: a trained one; None for a new one, where the objective trains it.
        frame_teacher: a diffusers 2D UNet, for objectives that need one.
        frame_schedule: the frame teacher's.
        adapter_rank: of the shared backbone's adapters.
        seed: of all weights that start at random.

    Raises:
        InputError: something that the objective needs was not given, or student and teacher do not fit together.
        ImportError: a shared backbone without peft.
    """
    needs, trains = objective.needs, objective.trains
    for name, given, next_step in (
        ("discriminator", discriminator or ("discriminator" in trains or None), "Give the one that stage 1 trained."),
        ("frame_teacher", frame_teacher, "Give an image diffusion model that shares the latent space."),
        ("frame_schedule", frame_schedule, "Give the image diffusion model's."),
    ):
        require(name not in needs or given is not None, name, "be given", None, next_step)
    if student is not None:
        _check_alike(student, teacher)
    teacher.requires_grad_(False).eval()
    networks = [name for name in ("student", "fake_score") if name in needs]
    if backbone == "shared":
        roles = _shared_roles(teacher, schedule, networks, student, adapter_rank, seed)
    else:
        roles = Roles(schedule, copy.deepcopy(teacher if student is None else student), teacher)
        roles.fake_score = copy.deepcopy(teacher) if "fake_score" in needs else None
        for name in networks:
            getattr(roles, name).requires_grad_(True).eval()
        if "teacher" not in needs:
            roles.teacher = None
    if "discriminator" in needs and objective.adversarial is not None:
        widths = _feature_widths(teacher, objective.adversarial)
        roles.discriminator = discriminator or _new_discriminator(teacher, widths, objective.adversarial.head, seed)
        _check_discriminator(roles.discriminator, widths, objective.adversarial.head)
        roles.discriminator.requires_grad_("discriminator" in trains).eval()
    if "density_ratio" in needs:
        roles.density_ratio = DensityRatio()
    if "frame_teacher" in needs and frame_teacher is not None:
        roles.frame_schedule = frame_schedule
        roles.frame_fake_score = copy.deepcopy(frame_teacher).requires_grad_(True).eval()
        roles.frame_teacher = frame_teacher.requires_grad_(False).eval()
    return roles


def _shared_roles(
    teacher: Any, schedule: NoiseSchedule, networks: Sequence[str], student: nn.Module | None, rank: int, seed: int
) -> Roles:
    shared = SharedBackbone(teacher, networks, rank, seed)
    if student is not None:
        shared.adopt("student", student)
    views = {name: AdaptedNetwork(shared, name).eval() for name in networks}
    return Roles(schedule, teacher=AdaptedNetwork(shared, None).eval(), **views)  # type: ignore[arg-type]


def _check_alike(student: nn.Module, teacher: nn.Module) -> None:
    """Raise `InputError` unless both have the same tensors."""
    shapes = [{name: tuple(t.shape) for name, t in m.state_dict().items()} for m in (student, teacher)]
    differing = sorted(
        name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)
    )
    if differing:
        name = differing[0]
        found = f"{name} {shapes[0].get(name)}, the teacher's is {shapes[1].get(name)}"
        raise InputError(complaint("the student", "have the teacher's tensors", found, "Give one distilled from it."))


def _feature_widths(teacher: Any, adversarial: Adversarial) -> tuple[int, ...]:
    """Channels of the teacher's maps that a discriminator looks at."""
    widths = [teacher.config.model_channels * mult for mult in teacher.config.channel_mult]
    return tuple(widths[-adversarial.scales :]) if adversarial.features == "multiscale" else (widths[-1],)


def _check_discriminator(discriminator: Any, widths: tuple[int, ...], head: Head) -> None:
    """Raise `InputError` unless it takes maps of these widths, by this head."""
    found = tuple(discriminator.config.feature_channels)
    next_step = "Give the one that was trained with this teacher and kind of features."
    require(found == widths, "the discriminator", f"look at the teacher's maps of {widths} channels", found, next_step)
    own = discriminator.config.head
    require(own == head, "the discriminator", f"have the recipe's head {head}", own, next_step)


def _new_discriminator(teacher: Any, widths: tuple[int, ...], head: Head, seed: int) -> ClipDiscriminator:
    # Twice the width of a network: 256 for the teacher that the paper names, and no more than a small one can feed.
    hidden = min(256, 2 * teacher.config.model_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipDiscriminator(widths, hidden, min(32, hidden // 4), head)


def start_roles(objective: Objective, start: Start, seed: int) -> Roles:
    """The roles that an objective needs, with the weights that the run starts with.

    Raises:
        InputError: a folder is missing or holds something else, or the networks do not fit together.
    """
    read_settings(start.teacher)
    if start.student is not None:
        read_settings(start.student)
    student, trained = start.student, start.discriminator
    frame_teacher, frame_schedule = (
        (None, None) if start.frame_teacher is None else load_image_model(start.frame_teacher)
    )
    return build_roles(
        objective,
        load_component(VideoUNet, start.teacher / "unet"),
        load_component(NoiseSchedule, start.teacher / "schedule"),
        backbone=start.backbone,
        student=None if student is None else load_component(VideoUNet, student / "unet"),
        discriminator=None if trained is None else load_component(ClipDiscriminator, trained),
        frame_teacher=frame_teacher,
        frame_schedule=frame_schedule,
        adapter_rank=start.adapter_rank,
        seed=seed,
    )
