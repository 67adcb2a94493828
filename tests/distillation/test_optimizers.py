"""Optimisers that cannot work are refused before a run starts."""

from __future__ import annotations

import pytest

from fvgen.checks import InputError
from fvgen.distillation.optimizers import check_optimizers
from fvgen.distillation.settings import OptimizerConfig, TrainConfig, optimizer_of

EIGHT = OptimizerConfig(kind="adamw8bit")


def test_a_discriminator_has_a_rate_of_its_own_and_the_critics_other_settings():
    critic = OptimizerConfig(lr=2e-4, warmup_steps=7)
    config = TrainConfig(student=OptimizerConfig(lr=1e-5), critic=critic, discriminator_lr_scale=5.0)
    assert optimizer_of("discriminator", config) == OptimizerConfig(lr=1e-3, warmup_steps=7)
    assert optimizer_of("fake_score", config) == critic and optimizer_of("student", config) == config.student
    with pytest.raises(InputError, match="discriminator_lr_scale must be positive, got 0"):
        TrainConfig(discriminator_lr_scale=0)


def test_moments_in_8_bits_are_refused_under_fsdp2():
    check_optimizers(TrainConfig(), sharded=True)
    for role in ("student", "critic"):
        with pytest.raises(InputError, match=rf"the {role}'s optimiser must be adamw under FSDP2.*--{role}.kind adamw"):
            check_optimizers(TrainConfig(**{role: EIGHT}), sharded=True)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"betas": (1.5, 0.9)}, r"betas must lie in \[0, 1\), got \(1.5, 0.9\)"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, got nan"),
    ],
)
def test_settings_that_adamw_does_not_take_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        OptimizerConfig(**bad)
