"""The networks of a distillation by role, and which of their parameters each role trains."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fvgen.distillation.adapters import AdaptedNetwork
from fvgen.distillation.density_ratio import DensityRatio

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule


@dataclass
class Roles:
    """The networks of one distillation. Those that a recipe does not need are None.

    Video networks are `VideoUNet`s or anything with their call.
    """

    schedule: NoiseSchedule
    student: nn.Module
    teacher: nn.Module | None = None
    """The frozen network whose distribution is learnt."""
    fake_score: nn.Module | None = None
    """Learns the score of the student's clips."""
    discriminator: nn.Module | None = None
    """`ClipDiscriminator` over features of the teacher or of the fake score; frozen, or trained."""
    density_ratio: DensityRatio | None = None
    """Reads r from the discriminator's logits. It has no weights, but a running mean that resumes."""
    frame_schedule: NoiseSchedule | None = None
    """Noise schedule of the image networks."""
    frame_teacher: nn.Module | None = None
    """A frozen diffusers 2D UNet for single frames in the same latents."""
    frame_fake_score: nn.Module | None = None
    """Learns the score of the student's frames."""

    def modules(self) -> dict[str, nn.Module]:
        """Every module by role, frozen ones too, in a fixed order."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: module for name, module in found.items() if module is not None}

    def trainable(self) -> dict[str, nn.Module]:
        """Role -> module, in a fixed order: modules that hold what this role alone trains or keeps.

        With a shared backbone these are the adapters' matrices. ``density_ratio`` has buffers only.
        """
        found = {}
        for name, module in self.modules().items():
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
