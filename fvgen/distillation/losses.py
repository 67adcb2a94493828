"""Losses as pure functions of tensors. Every one is a mean over clips, without any statistic over the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from fvgen.diffusion.prediction import OutputKind

if TYPE_CHECKING:  # it brings diffusers, which the help of a command need not wait for
    from fvgen.diffusion.schedule import NoiseSchedule

_SMALLEST = 1e-6
"""A prediction nearer than this to what it is compared with counts as this far: 1/0 would be no weight."""


def _per_clip(x: Tensor) -> Tensor:
    """Mean [B] of [B, ...] over everything but the batch."""
    return x.flatten(1).mean(dim=1)


def discriminator_loss(logit_real: Tensor, logit_fake: Tensor) -> Tensor:
    """Logistic loss of a discriminator from logits [B] of real and fake clips (Goodfellow et al., arXiv 1406.2661).

    Its minimum over all functions is logit = log(p_real / p_fake), which is what the density ratio is read from.
    """
    return F.softplus(-logit_real.float()).mean() + F.softplus(logit_fake.float()).mean()


def generator_loss(logit_fake: Tensor) -> Tensor:
    """Non-saturating logistic loss of a generator from logits [B] of its clips."""
    return F.softplus(-logit_fake.float()).mean()


def approximated_r1(logits: Tensor, logits_nearby: Tensor) -> Tensor:
    """Mean of |D(x) - D(x + σε)|² from logits [B] at real clips and at the same clips with a little noise.

    For small σ it is σ²·|dD/dx|², the R1 penalty, without a second derivative (APT, Lin et al., arXiv 2501.08316,
    eq. 4).
    """
    return (logits.float() - logits_nearby.float()).square().mean()


def diffusion_loss(
    x0_predicted: Tensor, x0: Tensor, t: Tensor, schedule: NoiseSchedule, kind: OutputKind = "v"
) -> Tensor:
    """Mean squared error of what a network predicts, from predictions and truth of x0 [B, ...] at timesteps t [B].

    At a known x_t all errors are the x0 error times a factor: 1 / (1-ᾱ_t) for v, ᾱ_t / (1-ᾱ_t) for epsilon.
    """
    error = _per_clip((x0_predicted.float() - x0.float()).square())
    signal = schedule.alphas_cumprod.to(t.device)[t]
    factor = {"v": 1 / (1 - signal), "epsilon": signal / (1 - signal), "x0": torch.ones_like(signal)}[kind]
    return (factor.to(error) * error).mean()


def dmd_normaliser(z: Tensor, z_real: Tensor) -> Tensor:
    """[B] weights 1 / mean|z - z_real| per clip (DMD, Yin et al., arXiv 2311.18828, eq. 8), finite where z_real is.

    Args:
        z: [B, ...] generated clips.
        z_real: [B, ...] what the teacher takes them for.
    """
    distance = _per_clip((z - z_real).detach().abs().float())
    return 1 / distance.clamp(min=_SMALLEST)


def distribution_matching_loss(z: Tensor, z_real: Tensor, z_fake: Tensor, weight: Tensor) -> Tensor:
    """A loss whose gradient at z is ``weight·(z_fake - z_real)``, averaged over clips and their entries.

    Descending it moves z along the score difference s_real - s_fake. A prediction that is not finite makes the loss not
    finite: check it before the descent.

    Args:
        z: [B, ...] generated clips; the gradient goes here and nowhere else.
        z_real, z_fake: [B, ...] what teacher and fake score take the noised clip for, in the units of z.
        weight: [B].
    """
    step = (z_fake - z_real).float() * weight.float().reshape(-1, *[1] * (z.ndim - 1))
    target = (z.float() - step).detach()
    return 0.5 * _per_clip((z.float() - target).square()).mean()


def gradient_only_into(z: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
    """``loss_of(z)`` with a gradient that reaches z, and none of the weights that ``loss_of`` uses.

    The part behind z is differentiated here and now: no gradients of a discriminator's weights are computed, and its
    activations are gone before the backward pass through whatever z came from. (Switching ``requires_grad`` off for a
    while instead would not survive gradient checkpointing, which computes activations again later.)

    Args:
        z: [B, ...] generated clips.
        loss_of: of clips [B, ...], a loss [].
    """
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        loss = loss_of(leaf)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach() + ((z - z.detach()) * gradient).sum()
