"""Presets: the papers' settings, and that each of them trains what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_networks import batch, draws, roles_for
from torch import nn

from fvgen.distillation.configs import PRESETS
from fvgen.distillation.objectives.causvid import CausVidRegression
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.optimizers import build_optimizer, set_learning_rate
from fvgen.distillation.settings import OptimizerConfig, optimizer_of
from fvgen.models.discriminator import ClipDiscriminator


def small(objective):
    """The recipe, as far as it depends on the size of networks and clips."""
    if isinstance(objective, CausVidRegression):
        return replace(objective, teacher_steps=4)
    if objective.frame_matching is not None:
        return replace(objective, matching=FrameMatching(frames=2, text_tokens=2))
    if getattr(objective, "discriminator_every", 0) > 0:  # else it is drawn whether this update is one of its
        return replace(objective, discriminator_every=1)
    return objective


def trained_before(objective):
    """The first stage's discriminator, for a recipe that does not train one."""
    if "discriminator" not in objective.needs or "discriminator" in objective.trains:
        return {}
    return {"discriminator": roles_for(FVGenStage1(adversarial=objective.adversarial)).discriminator}


@pytest.mark.parametrize("name", PRESETS)
def test_one_update_moves_every_role_that_a_preset_trains(name):
    entry = PRESETS[name]
    objective = small(entry.objective)
    roles = roles_for(objective, **trained_before(objective))
    for phase in ["critic_loss"] * bool(objective.critic_steps) + ["student_loss"]:
        student = phase == "student_loss"
        moved = {role: part for role, part in roles.trainable().items() if (role == "student") == student}
        moved.pop("density_ratio", None)
        getattr(objective, phase)(roles, batch(), draws())["loss"].backward()
        for role, part in moved.items():
            config = optimizer_of(role, entry.train)
            before = [p.detach().clone() for p in part.parameters()]
            optimizer = build_optimizer(config, dict(part.named_parameters()))
            set_learning_rate(optimizer, config, 0)
            optimizer.step()
            after = list(part.parameters())
            assert all(torch.isfinite(p).all() for p in after), role
            assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), role
        for part in roles.modules().values():
            part.zero_grad(set_to_none=True)


def test_both_stages_of_a_recipe_take_the_same_input():
    """The second stage asks the first one's discriminator about the student's clips."""
    for prefix, wanted in (("fvgen", "noised_real"), ("fvgen-simulated", "backward_simulation")):
        found = {PRESETS[f"{prefix}-stage{stage}"].objective.student_input for stage in (1, 2)}
        assert found == {wanted}
    assert PRESETS["fvgen-stage2"].objective.discriminator_every == 0


def test_the_first_row_of_table_3_is_softened_and_the_other_has_its_own_name():
    assert PRESETS["ablation-no-gan"].objective.matching.divergence == "softened_reverse_kl"
    assert PRESETS["ablation-no-gan-reverse-kl"].objective.matching.divergence == "reverse_kl"
    for name in ("ablation-no-gan", "ablation-no-gan-reverse-kl"):
        assert PRESETS[name].starts_from == "teacher"


def test_settings_of_the_papers():
    stage1, avdm2, causvid = (PRESETS[name] for name in ("fvgen-stage1", "avdm2", "causvid"))
    assert (stage1.train.global_batch, stage1.train.steps, stage1.train.student.lr) == (32, 4000, 5e-5)
    train = avdm2.train
    assert (train.global_batch, train.steps, train.critic.lr, train.ema_decay) == (16, 10_000, 2e-5, 0)
    assert train.student.lr * train.student.spatial_lr_scale == pytest.approx(4e-6)
    assert avdm2.objective.adversarial.head == "concatenated" and avdm2.objective.matching.t_range == (0.2, 0.98)
    assert causvid.train.student.lr == 2e-6 and causvid.objective.student_input == "noised_real"
    assert PRESETS["dmd2"].objective.adversarial.head == "frames"


def test_motion_layers_and_2d_layers_have_rates_of_their_own():
    roles = roles_for(small(PRESETS["avdm2"].objective))
    parameters = dict(roles.student.named_parameters())
    config = PRESETS["avdm2"].train.student
    optimizer = build_optimizer(config, parameters)
    set_learning_rate(optimizer, config, 500)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(parameters)
    for name, parameter in parameters.items():
        motion = "temporal" in name or name.startswith("attention_in")
        assert rate[id(parameter)] == pytest.approx(2e-5 if motion else 4e-6), name
    assert len(build_optimizer(OptimizerConfig(), parameters).param_groups) == 1


@pytest.mark.parametrize(("head", "sees"), [("pooled", True), ("concatenated", True), ("frames", False)])
def test_what_heads_see_of_the_order_of_frames(head, sees):
    """A head over single frames does not know their order; those over time do. All give one logit a clip."""
    torch.manual_seed(0)
    discriminator = ClipDiscriminator((8, 16), 16, 4, head)
    maps = [torch.randn(2, 5, 8, 8, 8), torch.randn(2, 5, 16, 4, 4)]
    order = torch.tensor([3, 0, 4, 1, 2])
    logits, shuffled = discriminator(maps), discriminator([x[:, order] for x in maps])
    assert logits.shape == (2,)
    # the normalisations take whole clips together and are blind to the order, too
    assert bool((logits - shuffled).abs().max() > 1e-4) == sees
    convolutions = [m for m in discriminator.modules() if isinstance(m, nn.Conv3d)]
    assert {m.kernel_size[0] for m in convolutions} == {3 if sees else 1}
