"""Who plays what in a distillation, and how the parts share memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from fvgen.checks import InputError, complaint, require
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.adapters import AdaptedNetwork, SharedBackbone
from fvgen.distillation.density_ratio import DensityRatio
from fvgen.models.discriminator import ClipDiscriminator

Backbone = Literal["full", "shared"]
_ORDER = (
    "schedule", "student", "teacher", "fake_score", "discriminator", "density_ratio",
    "frame_schedule", "frame_teacher", "frame_fake_score",
)  # fmt: skip
_TRAINED = ("student", "fake_score", "discriminator", "density_ratio", "frame_fake_score")


@dataclass
class Roles:
    """The networks of one distillation. Those that a recipe does not need are None.

    Video networks are `VideoUNet`s or anything with their call.
    """

    schedule: NoiseSchedule
    student: nn.Module
    teacher: nn.Module | None = None
    """frozen"""
    fake_score: nn.Module | None = None
    """learns the score of the student's clips"""
    discriminator: nn.Module | None = None
    """`ClipDiscriminator` over features of the teacher or of the fake score; frozen, or trained"""
    density_ratio: DensityRatio | None = None
    """reads r from the discriminator's logits; has no weights, but a running mean that resumes"""
    frame_schedule: NoiseSchedule | None = None
    """of the image networks"""
    frame_teacher: nn.Module | None = None
    """a frozen diffusers 2D UNet for single frames in the same latents"""
    frame_fake_score: nn.Module | None = None
    """learns the score of the student's frames"""

    def modules(self) -> dict[str, nn.Module]:
        """Every module by role, frozen ones too, in a fixed order."""
        return {name: module for name in _ORDER if (module := getattr(self, name)) is not None}

    def trainable(self) -> dict[str, nn.Module]:
        """By role, in a fixed order, modules that hold what this role alone trains or keeps.

        With a shared backbone these are the adapters' matrices. ``density_ratio`` has buffers only.
        """
        found = {}
        for name in _TRAINED:
            module = getattr(self, name)
            own = module.own() if isinstance(module, AdaptedNetwork) else module
            if own is not None and (name == "density_ratio" or any(p.requires_grad for p in own.parameters())):
                found[name] = own
        return found

    def student_network(self) -> nn.Module:
        """A plain network of its own with the student's weights as they are now, adapters merged in."""
        if not isinstance(self.student, AdaptedNetwork):
            return copy.deepcopy(self.student)
        shared: Any = self.student.shared
        with torch.device("meta"):
            network = type(shared.network).from_config(shared.network.config)
        network.load_state_dict(shared.merged_state(self.student.adapter), assign=True)
        return network.eval()


def build_roles(
    objective: Any,
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
        objective: says which roles it ``needs``, which it ``trains``, and which ``features`` it discriminates by.
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
    if "discriminator" in needs:
        widths = _feature_widths(teacher, objective.adversarial.features)
        roles.discriminator = discriminator or _new_discriminator(teacher, widths, seed)
        _check_discriminator(roles.discriminator, widths)
        roles.discriminator.requires_grad_("discriminator" in trains).eval()
    if "density_ratio" in needs:
        roles.density_ratio = DensityRatio()
    if "frame_teacher" in needs and frame_teacher is not None:
        roles.frame_schedule = frame_schedule
        roles.frame_fake_score = copy.deepcopy(frame_teacher).requires_grad_(True).eval()
        roles.frame_teacher = frame_teacher.requires_grad_(False).eval()
    return roles


def _shared_roles(
    teacher: Any, schedule: NoiseSchedule, networks: list[str], student: nn.Module | None, rank: int, seed: int
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


def _feature_widths(teacher: Any, features: str) -> tuple[int, ...]:
    """Channels of the teacher's maps that a discriminator looks at."""
    widths = [teacher.config.model_channels * mult for mult in teacher.config.channel_mult]
    # Three scales are AVDM2's; smaller networks have fewer.
    return tuple(widths[-3:]) if features == "multiscale" else (widths[-1],)


def _check_discriminator(discriminator: Any, widths: tuple[int, ...]) -> None:
    """Raise `InputError` unless it takes maps of these widths."""
    found = tuple(discriminator.config.feature_channels)
    next_step = "Give the one that was trained with this teacher and kind of features."
    require(found == widths, "the discriminator", f"look at the teacher's maps of {widths} channels", found, next_step)


def _new_discriminator(teacher: Any, widths: tuple[int, ...], seed: int) -> ClipDiscriminator:
    hidden = min(256, 8 * teacher.config.model_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClipDiscriminator(widths, hidden, min(32, hidden // 4))
