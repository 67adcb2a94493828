"""The adversarial part of a recipe: a discriminator over the features of a video network."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.clip import Conditions, TrainBatch
from fvgen.distillation.losses import approximated_r1, discriminator_loss, generator_loss, gradient_only_into
from fvgen.distillation.objectives.draws import Range, check_range, draw_timesteps, noised
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.models.discriminator_heads import Head


@dataclass(frozen=True)
class Adversarial:
    """Clips are noised, turned into a network's features, and classified as real or fake by a `ClipDiscriminator`."""

    t_range: Range = (0.0, 1.0)
    """Lowest and highest noise level of the clips that the discriminator sees, as shares of all timesteps."""
    r1_weight: float = 0.0
    """Weight of the approximated R1 penalty. 0 switches it off."""
    r1_sigma: float = 0.1
    """Standard deviation of the noise that the R1 penalty adds to real clips."""
    backbone: Literal["teacher", "fake_score"] = "teacher"
    """Network whose features are classified: the frozen teacher, or the fake score, which then learns from it, too."""
    features: Literal["middle", "multiscale"] = "middle"
    """Features that are classified: those of the middle block, or of the encoder at several resolutions."""
    head: Head = "pooled"
    """What features go through: 3D convolutions, each map for itself (pooled) or all together at last (concatenated),
    or 2D ones (frames)."""
    scales: int = 3
    """Number of resolutions of multi-scale features, the coarsest ones. A network with fewer gives all of its own."""

    def __post_init__(self) -> None:
        check_range("t_range", self.t_range)
        require(self.scales >= 1, "scales", "be at least 1", self.scales, "3 is AVDM2's.")
        require(self.r1_weight >= 0, "r1_weight", "be 0 or more", self.r1_weight, "0 switches it off.")
        require(self.r1_sigma > 0, "r1_sigma", "be positive", self.r1_sigma, "0.1 is usual.")

    def logits(self, roles: Roles, x_t: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """Logits [B] float32 of noised clips x_t [B, F, C, h, w] at t [B]."""
        network: Any = getattr(roles, self.backbone)
        sample = torch.cat([x_t, conditions.render_latents.to(x_t)], dim=2)
        # Through a frozen network a gradient is needed only where it leads to the clip.
        trained = x_t.requires_grad or self.backbone == "fake_score"
        with nullcontext() if trained else torch.no_grad():
            output = network(
                sample, t, conditions.tokens.to(sample), conditions.fps, return_features=self.features, middle_only=True
            )
        return self.logits_of(roles, output)

    def logits_of(self, roles: Roles, output: Any) -> Tensor:
        """Logits [B] float32 of a network's output that has the features."""
        maps: Sequence[Tensor] = output.multiscale if self.features == "multiscale" else [output.middle]
        discriminator: Any = roles.discriminator
        return discriminator(maps).float()

    def student_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the student's clips z [B, F, C, h, w], whose gradient reaches z alone; and meters."""
        t = draw_timesteps(random, roles.schedule, self.t_range, z)
        eps = random.randn_like(z)
        meters = {}

        def loss_of(clips: Tensor) -> Tensor:
            logits = self.logits(roles, noised(roles.schedule, clips, eps, t), t, batch.conditions)
            meters["logit_fake"] = logits.detach()
            return generator_loss(logits)

        loss = gradient_only_into(z, loss_of)
        return loss, {"adversarial": loss.detach(), **meters}

    def critic_term(
        self, roles: Roles, z: Tensor, batch: TrainBatch, random: BatchRandom
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the discriminator on real clips and the student's z [B, F, C, h, w]; and meters."""
        schedule, conditions = roles.schedule, batch.conditions
        t = draw_timesteps(random, schedule, self.t_range, z)
        eps = random.randn_like(z)  # the same for both, so that nothing follows from it
        x_real = noised(schedule, batch.latents, eps, t)
        real = self.logits(roles, x_real, t, conditions)
        fake = self.logits(roles, noised(schedule, z.detach(), eps, t), t, conditions)
        loss = discriminator_loss(real, fake)
        meters = {"discriminator": loss.detach(), "logit_real": real.detach(), "logit_fake": fake.detach()}
        if self.r1_weight > 0:
            nearby = self.logits(roles, x_real + self.r1_sigma * random.randn_like(z), t, conditions)
            penalty = approximated_r1(real, nearby)
            loss = loss + self.r1_weight * penalty
            meters["r1"] = penalty.detach()
        return loss, meters
