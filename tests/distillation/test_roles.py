"""Who shares what: adapters on one backbone, checkpointing, merged students, and what is refused."""

from __future__ import annotations

import sys

import pytest
import torch
from same_weights import OTHER_MEMORY
from tiny_networks import RECIPES, batch, discriminator, frame_teacher, perturb, roles_for, teacher

from fvgen.checks import InputError
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.adapters import AdaptedNetwork, SharedBackbone
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.start import build_roles
from fvgen.models.discriminator import ClipDiscriminator
from fvgen.models.unet_3d import VideoUNet

NETWORKS = ("student", "teacher", "fake_score")


@pytest.fixture
def sample():
    torch.manual_seed(7)
    return torch.randn(2, 4, 7, 8, 8), torch.tensor([100, 900]), torch.randn(2, 3, 8)


def outputs(roles, sample) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return {name: getattr(roles, name)(*sample).sample for name in NETWORKS}


@pytest.mark.parametrize("backbone", ["full", "shared"])
def test_everyone_starts_as_the_teacher(sample, backbone):
    with torch.no_grad():
        expected = teacher()(*sample).sample
    for out in outputs(roles_for(RECIPES["fvgen_stage2"], backbone), sample).values():
        torch.testing.assert_close(out, expected, **OTHER_MEMORY)


def test_adapters_do_not_touch_each_other_or_the_teacher(sample):
    roles = roles_for(RECIPES["fvgen_stage2"], "shared")
    before = outputs(roles, sample)
    perturb(roles.trainable()["student"])
    after = outputs(roles, sample)
    assert torch.equal(after["teacher"], before["teacher"]) and torch.equal(after["fake_score"], before["fake_score"])
    assert (after["student"] - before["student"]).abs().max() > 0.01
    perturb(roles.trainable()["fake_score"], seed=6)
    last = outputs(roles, sample)
    assert torch.equal(last["student"], after["student"]) and not torch.equal(last["fake_score"], last["student"])


def test_three_networks_share_one_memory():
    full, shared = (roles_for(RECIPES["fvgen_stage2"], backbone) for backbone in ("full", "shared"))

    def tensors(roles, names=NETWORKS):
        return {id(p): p.numel() for name in names for p in roles.modules()[name].parameters()}

    one = sum(p.numel() for p in teacher().parameters())
    trained = sum(p.numel() for role in ("student", "fake_score") for p in roles_parameters(shared, role))
    assert sum(tensors(full).values()) == 3 * one
    assert sum(tensors(shared).values()) == one + trained
    assert all(p.requires_grad for role in ("student", "fake_score") for p in roles_parameters(shared, role))
    frozen = [p for p in shared.teacher.parameters() if not p.requires_grad]
    assert sum(p.numel() for p in frozen) == one


def roles_parameters(roles, role):
    return list(roles.trainable()[role].parameters())


def test_trainable_roles_do_not_overlap():
    roles = roles_for(RECIPES["dmd2"], "shared")
    sets = [{id(p) for p in module.parameters()} for module in roles.trainable().values()]
    assert sum(map(len, sets)) == len(set().union(*sets)) and all(sets)


def test_the_order_of_roles_is_fixed():
    roles = roles_for(RECIPES["fvgen_stage2, discriminator trained"])
    assert list(roles.trainable()) == ["student", "fake_score", "discriminator", "density_ratio"]
    assert list(roles.modules()) == ["schedule", "student", "teacher", "fake_score", "discriminator", "density_ratio"]
    frozen = roles_for(RECIPES["fvgen_stage2"])
    assert list(frozen.trainable()) == ["student", "fake_score", "density_ratio"]
    assert not any(roles.modules()[name].training for name in ("student", "teacher", "fake_score", "discriminator"))


@pytest.mark.parametrize("backbone", ["full", "shared"])
@pytest.mark.parametrize("name", ["fvgen_stage1", "fvgen_stage2", "dmd2"])
def test_gradient_checkpointing_changes_no_gradient(name, backbone):
    """The backward pass computes each stage again, when another adapter is on than in the forward pass."""
    objective = RECIPES[name]
    gradients = []
    for checkpointing in (False, True):
        roles = roles_for(objective, backbone)
        for seed, module in enumerate(roles.trainable().values()):
            perturb(module, seed)
        if checkpointing:
            for module in roles.modules().values():
                for part in module.modules():
                    if hasattr(part, "enable_gradient_checkpointing") and part._supports_gradient_checkpointing:
                        part.enable_gradient_checkpointing()
        runs = count_runs(roles.student)
        for phase in ("critic_loss", "student_loss"):
            loss = getattr(objective, phase)(roles, batch(), BatchRandom((0,), range(2)))["loss"]
            if backbone == "shared":
                with torch.no_grad():  # someone else is at work in between
                    roles.teacher(torch.zeros(1, 4, 7, 8, 8), torch.tensor([1]), torch.zeros(1, 3, 8))
            loss.backward()
        gradients.append(
            {
                f"{role}.{key}": p.grad
                for role, module in roles.trainable().items()
                for key, p in module.named_parameters()
                if p.grad is not None
            }
        )
        gradients[-1]["runs"] = torch.tensor(float(len(runs)))
    plain, again = gradients
    assert plain.pop("runs") < again.pop("runs")  # it was computed again indeed
    assert plain.keys() == again.keys() and len(plain) > 100
    for key, gradient in plain.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-5, atol=1e-8, msg=key)


def count_runs(network) -> list[int]:
    runs: list[int] = []
    backbone = network.backbone if isinstance(network, AdaptedNetwork) else network
    backbone.encoder[0].register_forward_pre_hook(lambda *_: runs.append(1))
    return runs


# ---- the student on its own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["full", "shared"])
def test_the_exported_student_is_a_plain_network_that_does_the_same(sample, backbone, tmp_path):
    roles = roles_for(RECIPES["fvgen_stage1"], backbone)
    perturb(roles.trainable()["student"])
    with torch.no_grad():
        expected = roles.student(*sample).sample
        network = roles.student_network()
        assert type(network) is VideoUNet and {k for k, _ in network.named_parameters()} == {
            k for k, _ in teacher().named_parameters()
        }
        network.save_pretrained(tmp_path)
        loaded = VideoUNet.from_pretrained(tmp_path).eval()
        # W·x + B·(A·x) against (W + B·A)·x: float32 rounding through some twenty layers
        torch.testing.assert_close(loaded(*sample).sample, expected, rtol=1e-4, atol=1e-4)
    perturb(roles.trainable()["student"], seed=9)
    assert not any(
        a.data_ptr() == b.data_ptr() for a in network.parameters() for b in roles.student.parameters()
    )  # training on does not change it


def test_a_backbone_in_half_precision_exports_a_float32_student(sample):
    roles = roles_for(RECIPES["fvgen_stage1"], "shared")
    for parameter in roles.student.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    network = roles.student_network()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert network(*sample).sample.isfinite().all()


def test_a_merged_student_finds_its_way_back_into_adapters(sample):
    """Stage 2 goes on from stage 1's export in shared mode, too."""
    first = roles_for(RECIPES["fvgen_stage1"], "shared")
    perturb(first.trainable()["student"])
    student = first.student_network()
    second = roles_for(RECIPES["fvgen_stage2"], "shared", student=student)
    with torch.no_grad():
        torch.testing.assert_close(second.student(*sample).sample, student(*sample).sample, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(second.teacher(*sample).sample, teacher()(*sample).sample, **OTHER_MEMORY)


def test_a_student_without_a_change_leaves_adapters_that_can_learn():
    roles = roles_for(RECIPES["fvgen_stage1"], "shared", student=teacher())
    pieces = roles.trainable()["student"]
    assert all((piece.weight != 0).any() for name, piece in pieces.items() if name.endswith("-A"))
    assert all((piece.weight == 0).all() for name, piece in pieces.items() if name.endswith("-B"))


def test_a_student_beyond_the_adapters_rank_is_refused():
    trained = teacher()
    perturb(trained)
    with pytest.raises(
        InputError, match=r"student must differ from the teacher by matrices of rank 3 or less, got \d+%"
    ):
        roles_for(RECIPES["fvgen_stage1"], "shared", student=trained)
    assert roles_for(RECIPES["fvgen_stage1"], "full", student=trained).student is not trained


def test_a_given_student_and_discriminator_are_taken(sample):
    other, trained = teacher(seed=4), discriminator(seed=8)
    roles = roles_for(RECIPES["fvgen_stage2"], student=other, discriminator=trained)
    with torch.no_grad():
        torch.testing.assert_close(roles.student(*sample).sample, other(*sample).sample, **OTHER_MEMORY)
        torch.testing.assert_close(roles.fake_score(*sample).sample, teacher()(*sample).sample, **OTHER_MEMORY)
    assert roles.discriminator is trained and not any(p.requires_grad for p in trained.parameters())


def test_random_weights_depend_on_the_seed_alone():
    def build(seed):
        torch.manual_seed(torch.seed() % 1000)
        return roles_for(RECIPES["fvgen_stage1"], "shared", seed=seed).trainable()

    one, same, other = build(0), build(0), build(1)
    for role in one:
        states = [built[role].state_dict() for built in (one, same, other)]
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


# ---- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "given", "complaint"),
    [
        ("fvgen_stage2", {}, "discriminator must be given, got None. Give the one that stage 1 trained."),
        ("avdm2", {}, "frame_teacher must be given, got None. Give an image diffusion model"),
        ("avdm2", {"frame_teacher": frame_teacher()}, "frame_schedule must be given"),
    ],
)
def test_what_is_missing_is_named(recipe, given, complaint):
    with pytest.raises(InputError, match=complaint):
        build_roles(RECIPES[recipe], teacher(), NoiseSchedule(), **given)


def test_another_networks_student_is_refused():
    other = VideoUNet.from_config({**teacher().config, "out_channels": 4})
    with pytest.raises(InputError, match=r"student must have the teacher's tensors, got conv_out.bias \(4,\), the"):
        roles_for(RECIPES["fvgen_stage1"], student=other)


def test_another_networks_discriminator_is_refused():
    with pytest.raises(
        InputError, match=r"discriminator must look at the teacher's maps of \(16,\) channels, got \(8,"
    ):
        roles_for(RECIPES["fvgen_stage2"], discriminator=ClipDiscriminator((8,), 16, 4))


def test_an_adapter_needs_a_rank():
    with pytest.raises(InputError, match="adapter_rank must be at least 1, got 0"):
        SharedBackbone(teacher(), ["student"], rank=0)


def test_without_peft_the_package_and_the_extra_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"needs peft. Install it with .*\[train\]"):
        roles_for(RECIPES["fvgen_stage1"], "shared")
