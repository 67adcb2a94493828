"""A discriminator learns to separate real clips from obviously different ones, or a stage 1 is worth nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tiny_networks import batch, roles_for

from fvgen.distillation.configs import PRESETS, PresetName
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.optimizers import build_optimizer, set_learning_rate
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.settings import optimizer_of

CLIPS, FRESH = 4, 64
CHANCE = 2 * math.log(2)
FAKES = {"colour cast": lambda z: z + 1, "contrast": lambda z: 3 * z}


def loss_after(preset: PresetName, fake: str, updates: int, **changes) -> float:
    """Loss on clips it has not seen, after some updates as a preset has them (clips: noise, for a random teacher)."""
    entry = PRESETS[preset]
    adversarial: Adversarial = replace(entry.objective.adversarial, **changes)
    roles = roles_for(replace(entry.objective, adversarial=adversarial))
    parameters = dict(roles.discriminator.named_parameters())
    # No slower than the tiny presets: at the paper's 5e-5 nothing would happen within a test.
    config = optimizer_of("discriminator", PRESETS["tiny-stage1"].train)
    optimizer = build_optimizer(config, parameters)
    for step in range(updates):
        real = batch(CLIPS, seed=step)
        draws = BatchRandom((0, step), range(CLIPS))
        loss, _ = adversarial.critic_term(roles, FAKES[fake](real.latents), real, draws)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), config.max_grad_norm)
        set_learning_rate(optimizer, config, step)
        optimizer.step()
    real = batch(FRESH, seed=updates)
    with torch.no_grad():
        _, meters = adversarial.critic_term(roles, FAKES[fake](real.latents), real, BatchRandom((1,), range(FRESH)))
    return float(meters["discriminator"])


@pytest.mark.parametrize("preset", ["fvgen-stage1", "tiny-stage1"])
def test_a_colour_cast_is_told_from_real_clips(preset):
    """All noise levels are drawn, and at the highest nothing can be seen: the loss stays well above 0."""
    assert loss_after(preset, "colour cast", updates=40) < 0.9 * CHANCE


def test_the_tiny_presets_see_contrast_which_the_middle_block_does_not():
    """The reason for their ``features``: over the middle block alone the same updates end at chance."""
    assert loss_after("tiny-stage1", "contrast", updates=80) < 0.85 * CHANCE
    assert loss_after("tiny-stage1", "contrast", updates=80, features="middle") > 0.95 * CHANCE


def test_both_tiny_stages_look_at_clips_alike():
    """Stage 2 reads density ratios from stage 1's discriminator, of the student's clips as stage 1 drew them."""
    first, second = (PRESETS[name].objective for name in ("tiny-stage1", "tiny-stage2"))
    assert first.adversarial == second.adversarial and first.student_input == second.student_input
