"""The video UNet as a module: shapes, features, checkpointing, saving, errors."""

import pytest
import torch
from same_weights import OTHER_MEMORY, assert_same_weights
from torch.utils.flop_counter import FlopCounterMode

from fvgen.checks import InputError
from fvgen.models.attention import multi_head_attention
from fvgen.models.unet_3d import VideoUNet

TINY = {
    "in_channels": 6,
    "out_channels": 3,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": 1,
    "attention_resolutions": (2,),
    "num_head_channels": 16,
    "context_dim": 24,
    "text_context_length": 5,
    "image_tokens_per_frame": 2,
}


def tiny(**changes):
    torch.manual_seed(0)
    unet = VideoUNet(**{**TINY, **changes}).eval()
    for parameter in unet.parameters():  # no branch may hide behind a zero
        if parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    return unet


def inputs(batch=1, frames=3, height=8, width=4, image_tokens=4):
    g = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(batch, frames, 6, height, width, generator=g),
        "timestep": torch.arange(batch) * 300 + 99,
        "context": torch.randn(batch, 5 + image_tokens, 24, generator=g),
        "fps": torch.full((batch,), 7),
    }


@torch.no_grad()
def test_output_has_the_shape_of_the_sample_and_starts_at_zero():
    out = VideoUNet(**TINY)(**inputs(batch=2)).sample
    assert out.shape == (2, 3, 3, 8, 4)
    assert torch.equal(out, torch.zeros_like(out))  # the last convolution is zero-initialised


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other():
    unet, both = tiny(), inputs(batch=2, image_tokens=6)  # 6 = 3 frames x 2: per-frame tokens
    together = unet(**both).sample
    alone = unet(**{name: tensor[1:] for name, tensor in both.items()}).sample
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_image_tokens_per_frame_or_for_all():
    unet, base = tiny(temporal_attention=False, temporal_conv=False, initial_attention=False), inputs(image_tokens=6)

    def changed_frames(image_tokens):
        before = {**base, "context": base["context"][:, : 5 + image_tokens]}
        after = {**before, "context": before["context"].clone()}
        after["context"][:, 5] += 1  # the first image token
        change = (unet(**after).sample - unet(**before).sample).abs().amax(dim=(0, 2, 3, 4))
        return (change > 1e-6).tolist()

    assert changed_frames(6) == [True, False, False]  # 3 frames x 2 tokens: its own tokens for each frame
    assert changed_frames(4) == [True, True, True]  # any other number: all for all


@torch.no_grad()
def test_middle_only_equals_the_full_run_and_skips_the_decoder():
    unet, x = tiny(), inputs(batch=2)
    with FlopCounterMode(display=False) as whole:
        full = unet(**x, return_features="multiscale")
    with FlopCounterMode(display=False) as part:
        half = unet(**x, return_features="multiscale", middle_only=True)
    assert half.sample is None
    assert torch.equal(half.middle, full.middle)
    assert full.middle.shape == (2, 3, 64, 4, 2)
    assert [tuple(m.shape) for m in half.multiscale] == [(2, 3, 32, 8, 4), (2, 3, 64, 4, 2)]
    assert part.get_total_flops() < 0.7 * whole.get_total_flops()


@torch.no_grad()
def test_tuple_output_holds_what_was_asked_for():
    unet, x = tiny(), inputs()
    assert len(unet(**x, return_dict=False)) == 1
    assert len(unet(**x, return_dict=False, return_features="middle")) == 2


@pytest.mark.parametrize("features", ["middle", "none"])
def test_gradient_checkpointing_gives_the_same_gradients(features):
    gradients = []
    for checkpointing in (False, True):
        unet, x = tiny(), inputs()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        output = unet(**x, return_features=features)
        loss = output.sample.square().sum() if features == "none" else output.middle.square().sum()
        loss.backward()
        gradients.append([p.grad for p in unet.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_save_and_load_round_trip(tmp_path):
    unet, x = tiny(), inputs()
    unet.save_pretrained(tmp_path)
    again = VideoUNet.from_pretrained(tmp_path).eval()
    assert dict(again.config)["channel_mult"] == [1, 2] or again.config["channel_mult"] == (1, 2)
    assert_same_weights(again, unet)
    torch.testing.assert_close(again(**x).sample, unet(**x).sample, **OTHER_MEMORY)


@pytest.mark.slow
def test_compiles_without_a_graph_break():
    unet, x = tiny(), inputs()
    compiled = torch.compile(unet, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**x).sample, unet(**x).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_causal_option_hides_the_future():
    unet = tiny(causal_temporal_attention=True, initial_attention=False, temporal_conv=False)
    # Group statistics of the temporal transformer run over all frames: take them out to see attention alone.
    for module in unet.modules():
        if type(module).__name__ == "TemporalTransformer":
            module.norm = torch.nn.Identity()
    x = inputs()
    later = {**x, "sample": x["sample"].clone()}
    later["sample"][:, 2] += 1
    change = (unet(**later).sample - unet(**x).sample).abs().amax(dim=(0, 2, 3, 4))
    assert (change > 1e-6).tolist() == [False, False, True]


@torch.no_grad()
def test_slices_of_feed_forward_and_attention_change_nothing(monkeypatch):
    unet, x = tiny(), inputs(batch=2)
    whole = unet(**x).sample
    monkeypatch.setattr("fvgen.models.attention._TOKENS_ON_CPU", 7)
    monkeypatch.setattr("fvgen.models.attention._MAX_GRID", 3)
    torch.testing.assert_close(unet(**x).sample, whole, atol=1e-5, rtol=0)


def test_attention_against_the_written_formula():
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(n, s, 8, generator=g, dtype=torch.float64) for n, s in ((6, 5), (2, 4), (2, 4)))
    heads = 2
    got = multi_head_attention(q, k, v, heads)
    for row in range(6):
        for head in range(heads):
            part = slice(4 * head, 4 * head + 4)
            weights = (q[row, :, part] @ k[row // 3, :, part].T / 2).softmax(-1)
            torch.testing.assert_close(got[row, :, part], weights @ v[row // 3, :, part])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"sample": torch.zeros(1, 3, 5, 8, 4)}, r"sample must have shape \[B, F, 6, h, w\]"),
        ({"sample": torch.zeros(1, 0, 6, 8, 4)}, r"sample must have shape \[B, F, 6, h, w\], got \(1, 0, 6, 8, 4\)"),
        ({"return_features": "all"}, "return_features must be one of .*'multiscale'.*, got all"),
        ({"sample": torch.zeros(1, 3, 6, 7, 4)}, "divisible by 2"),
        ({"timestep": torch.tensor(5)}, "timestep must have shape"),
        ({"timestep": torch.tensor([1, 2])}, "timestep must have shape"),
        ({"fps": torch.tensor([1, 2])}, "fps must have shape"),
        ({"context": torch.zeros(1, 9, 23)}, r"context must have shape \[1, N, 24\]"),
        ({"context": torch.zeros(2, 9, 24)}, r"context must have shape \[1, N, 24\]"),
        ({"context": torch.zeros(1, 4, 24)}, "at least 5 text tokens"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, names):
    with pytest.raises(InputError, match=names):
        tiny()(**{**inputs(), **change})


def test_widths_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="divisible by norm_num_groups 32"):
        VideoUNet(**{**TINY, "model_channels": 48})


@torch.no_grad()
def test_gated_inputs_go_straight_into_the_prediction():
    """With constant gates the prediction is their sum beside what the rest of the network says; at first it is 0."""
    given = inputs(batch=2)
    fresh = VideoUNet(**TINY, gated_inputs=2)
    assert torch.equal(fresh(**given).sample, torch.zeros(2, 3, 3, 8, 4))
    gates = torch.linspace(-1, 1, 6)
    fresh.conv_out.bias[3:] = gates
    expected = (gates.view(2, 3, 1, 1) * given["sample"].unflatten(2, (2, 3))).sum(2)
    torch.testing.assert_close(fresh(**given).sample, expected)
    own, plain = tiny(gated_inputs=1), tiny()
    plain.load_state_dict({k: v[:3] if k.startswith("conv_out") else v for k, v in own.state_dict().items()})
    own.conv_out.weight[3:], own.conv_out.bias[3:] = 0, 0.5
    torch.testing.assert_close(own(**given).sample, plain(**given).sample + 0.5 * given["sample"][:, :, :3])
    with pytest.raises(InputError, match="gated_inputs must be at most in_channels 6 over out_channels 3, got 3"):
        VideoUNet(**TINY, gated_inputs=3)


@torch.no_grad()
def test_joined_projections_are_the_same_network_under_the_same_names(tmp_path):
    unet, joined = tiny(), tiny()
    joined.join_projections()
    together, apart = joined(**inputs()).sample, unet(**inputs()).sample
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)  # a product of other shape adds in another order
    assert_same_weights(joined, unet)
    joined.save_pretrained(tmp_path)
    assert_same_weights(VideoUNet.from_pretrained(tmp_path), unet)
    doubled, expected = joined.to(torch.float64), unet.to(torch.float64)  # casting leaves the joined weights behind
    sample = {name: t.double() if t.is_floating_point() else t for name, t in inputs().items()}
    torch.testing.assert_close(doubled(**sample).sample, expected(**sample).sample, atol=1e-6, rtol=0)


def test_joined_projections_pass_gradients_to_each_layer():
    unet, joined = tiny(), tiny()
    joined.join_projections()
    for network in (unet, joined):
        network(**inputs()).sample.square().mean().backward()
    for (name, expected), found in zip(unet.named_parameters(), joined.parameters(), strict=True):
        assert expected.grad is not None and torch.equal(found.grad, expected.grad), name


@torch.no_grad()
@pytest.mark.parametrize("image_tokens", [0, 4, 6])  # none, shared by the clip, two for each frame
def test_a_prepared_context_gives_the_same(image_tokens):
    unet, given = tiny(), inputs(batch=2, image_tokens=image_tokens)
    expected = unet(**given).sample
    prepared = unet.prepare_context(given.pop("context"), frames=3)
    assert torch.equal(unet(**given, context=prepared).sample, expected)
