"""One logit per clip from feature maps of any size."""

from __future__ import annotations

import pytest
import torch
from same_weights import OTHER_MEMORY, assert_same_weights

from fvgen.checks import InputError
from fvgen.models.discriminator import ClipDiscriminator


@pytest.fixture
def middle() -> ClipDiscriminator:
    torch.manual_seed(0)
    return ClipDiscriminator((16,), 32, 8).eval()


@pytest.mark.parametrize("shape", [(2, 16, 16, 5, 8), (1, 1, 16, 1, 1), (3, 25, 16, 9, 16), (2, 4, 16, 1, 2)])
def test_one_logit_per_clip_whatever_its_size(middle, shape):
    logits = middle([torch.randn(shape)])
    assert logits.shape == shape[:1] and logits.isfinite().all()


def test_a_clips_logit_does_not_depend_on_its_batch(middle):
    clips = torch.randn(3, 4, 16, 5, 8)
    torch.testing.assert_close(middle([clips])[1:2], middle([clips[1:2]]), rtol=1e-4, atol=1e-6)


def test_it_sees_the_order_of_frames_and_every_frame(middle):
    clips = torch.randn(2, 6, 16, 5, 8).requires_grad_()
    logits = middle([clips])
    assert (
        logits - middle([clips[:, torch.randperm(6, generator=torch.Generator().manual_seed(1))]])
    ).abs().min() > 1e-4
    logits.sum().backward()
    assert (clips.grad.abs().sum((2, 3, 4)) > 0).all()


def test_several_resolutions_have_heads_of_their_own():
    torch.manual_seed(0)
    discriminator = ClipDiscriminator((8, 16, 32), 16, 4).eval()
    maps = [torch.randn(2, 4, c, s, s) for c, s in ((4, 32), (8, 16), (16, 8), (32, 4))]
    logits = discriminator(maps)
    assert logits.shape == (2,)
    assert torch.equal(logits, discriminator(maps[1:]))  # of more maps the coarsest count
    for number in range(1, 4):
        changed = [m + (i == number) for i, m in enumerate(maps)]
        assert (discriminator(changed) - logits).abs().min() > 1e-5


def test_gradients_reach_the_features(middle):
    features = torch.randn(2, 4, 16, 5, 8, requires_grad=True)
    middle([features]).sum().backward()
    assert features.grad.abs().sum() > 0


def test_half_precision_features(middle):
    features = torch.randn(2, 4, 16, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = middle([features.bfloat16()]).float()
    torch.testing.assert_close(found, middle([features]), rtol=0, atol=0.05)


def test_saved_and_loaded_it_is_the_same(middle, tmp_path):
    features = [torch.randn(2, 4, 16, 5, 8)]
    middle.save_pretrained(tmp_path)
    loaded = ClipDiscriminator.from_pretrained(tmp_path).eval()
    assert_same_weights(loaded, middle)
    torch.testing.assert_close(loaded(features), middle(features), **OTHER_MEMORY)


def test_features_of_another_network_are_refused():
    discriminator = ClipDiscriminator((8, 16), 16, 4)
    with pytest.raises(InputError, match="features must hold at least 2 maps, got 1"):
        discriminator([torch.randn(1, 2, 8, 4, 4)])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"feature_channels": ()}, "feature_channels"), ({"hidden_channels": 20}, "hidden_channels")],
)
def test_bad_settings_are_refused(settings, complaint):
    with pytest.raises(InputError, match=complaint):
        ClipDiscriminator(**settings)
