"""Plain diffusion training: a teacher from scratch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.distillation.objectives.objective import Objective
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles


@dataclass(frozen=True)
class Diffusion(Objective):
    """Diffusion training by v-prediction (Salimans & Ho, arXiv 2202.00512): E ||v_θ(x_t, t) - v||².

    The network that is trained stands in the student's place; there is no other.
    """

    unconditional_share: float = 0.0
    """Share of clips whose tokens are replaced by the unconditional ones, so that guidance works later."""
    shift: float = 1.0
    """Preference for high noise levels: t/T = shift u / (1 + (shift - 1) u) with u uniform. 1 takes all alike."""
    critic_steps: int = 0
    """Updates of critics for each update of the student. There is no critic to train."""

    def __post_init__(self) -> None:
        require(self.shift > 0, "shift", "be positive", self.shift, "1 takes all noise levels alike.")

    @property
    def needs(self) -> tuple[str, ...]:
        """Roles it reads."""
        return ("student",)

    @property
    def trains(self) -> tuple[str, ...]:
        """Roles it trains."""
        return ("student",)

    def student_loss(self, roles: Roles, batch: TrainBatch, random: BatchRandom) -> dict[str, Tensor]:
        """``loss``, and ``v_error`` [B] per clip."""
        schedule, known, z = roles.schedule, batch.conditions, batch.latents
        t = random.randint(0, schedule.num_train_timesteps).to(z.device)
        if self.shift != 1:  # Esser et al., arXiv 2403.03206, equation 23
            u = (t + 0.5) / schedule.num_train_timesteps
            t = (self.shift * u / (1 + (self.shift - 1) * u) * schedule.num_train_timesteps).long()
        tokens = known.tokens
        if self.unconditional_share > 0:
            dropped = random.rand().to(z.device) < self.unconditional_share
            tokens = torch.where(dropped[:, None, None], known.unconditional().tokens, tokens)
        x0, eps = schedule.scale_latents(z, t), random.randn_like(z)
        sample = torch.cat([schedule.add_noise(x0, eps, t), known.render_latents], dim=2)
        v = roles.student(sample, t, tokens, known.fps).sample.float()
        errors = (v - schedule.to_v(x0, eps, t)).square().mean((1, 2, 3, 4))
        return {"loss": errors.mean(), "v_error": errors.detach()}
