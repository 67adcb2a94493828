"""Codecs behind their one interface."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from same_weights import OTHER_MEMORY, assert_same_weights

from fvgen.checks import InputError
from fvgen.models.codec import SpaceToDepth, codec_for
from fvgen.models.recorded import Recorded


def kl():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    return AutoencoderKL(block_out_channels=(4, 8, 8), norm_num_groups=4, latent_channels=4, **blocks).eval()


def tiny():
    torch.manual_seed(0)
    blocks = (1, 1, 1)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
    ).eval()


KINDS = {"kl": (kl, 4, 4), "tiny": (tiny, 4, 4), "space_to_depth": (lambda: SpaceToDepth(4), 48, 4)}


@pytest.fixture(params=KINDS)
def kind(request):
    build, channels, downscale = KINDS[request.param]
    return build(), channels, downscale


@torch.no_grad()
def test_shapes_ranges_and_chunks(kind):
    vae, channels, downscale = kind
    images = torch.rand(2, 3, 3, 16, 24)
    codec = codec_for(vae)
    assert (codec.latent_channels, codec.downscale) == (channels, downscale)
    noise = torch.randn(2, 3, channels, 4, 6)
    latents = codec.encode(images, noise)
    assert latents.shape == noise.shape and latents.dtype == torch.float32
    decoded = codec.decode(latents)
    assert decoded.shape == images.shape and decoded.min() >= 0 and decoded.max() <= 1
    by_ones = codec_for(vae, chunk=1)
    # other batch sizes sum in another order
    torch.testing.assert_close(by_ones.encode(images, noise), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(by_ones.decode(latents), decoded, atol=1e-5, rtol=1e-5)


def test_bad_shapes_are_refused(kind):
    codec = codec_for(kind[0])
    cases = {
        r"images must have shape \[B, F, 3, H, W\]": lambda: codec.encode(torch.rand(2, 3, 16, 16)),
        "images must have height and width divisible by 4": lambda: codec.encode(torch.rand(1, 1, 3, 18, 16)),
        "noise must have the latents' shape": lambda: codec.encode(
            torch.rand(1, 1, 3, 16, 16), torch.rand(1, 1, 4, 2, 2)
        ),
        "latents must have shape": lambda: codec.decode(torch.rand(1, 1, 5, 4, 4)),
        "chunk must be at least 1": lambda: codec_for(kind[0], chunk=0),
    }
    for message, call in cases.items():
        with pytest.raises(InputError, match=message):
            call()


def test_a_stranger_is_refused():
    with pytest.raises(InputError, match="vae must be one of"):
        codec_for(torch.nn.Linear(1, 1))


@torch.no_grad()
def test_kl_latents_are_scaled_posterior_samples():
    vae = kl()
    images, noise = torch.rand(1, 2, 3, 8, 8), torch.randn(1, 2, 4, 2, 2)
    mean, logvar = vae.quant_conv(vae.encoder(images[0] * 2 - 1)).chunk(2, dim=1)
    expected = 0.18215 * (mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * noise[0])
    torch.testing.assert_close(codec_for(vae).encode(images, noise)[0], expected)
    torch.testing.assert_close(codec_for(vae).encode(images)[0], 0.18215 * mean)
    decoded = vae.decoder(vae.post_quant_conv(expected / 0.18215)) / 2 + 0.5
    torch.testing.assert_close(codec_for(vae).decode(expected[None])[0], decoded.clamp(0, 1))


@pytest.mark.parametrize("patch_size", [1, 2, 8])
def test_space_to_depth_loses_nothing(patch_size):
    codec = codec_for(SpaceToDepth(patch_size))
    images = torch.arange(256).repeat(3)[:768].reshape(1, 1, 3, 16, 16) / 255
    restored = codec.decode(codec.encode(images))
    torch.testing.assert_close(restored, images, atol=1.2e-7, rtol=0)  # one rounding at 1
    assert torch.equal((restored * 255).round(), (images * 255).round())


def test_space_to_depth_keeps_neighbours_together():
    """A latent pixel holds its patch and nothing else."""
    images = torch.zeros(1, 1, 3, 8, 8)
    images[..., 4:, :4] = 1
    latents = codec_for(SpaceToDepth(4)).encode(images)
    assert torch.all(latents[0, 0, :, 1, 0] == 1) and torch.all(latents[0, 0, :, 0] == -1)


def test_space_to_depth_saves_its_statistics(tmp_path):
    codec = SpaceToDepth(2)
    codec.pixel_mean.copy_(torch.tensor([0.3, 0.4, 0.5]))
    codec.pixel_std.fill_(0.2)
    codec.save_pretrained(tmp_path)
    loaded = SpaceToDepth.from_pretrained(tmp_path)
    assert loaded.config.patch_size == 2
    images = torch.rand(1, 1, 3, 4, 4)
    assert_same_weights(loaded, codec)
    torch.testing.assert_close(codec_for(loaded).encode(images), codec_for(codec).encode(images), **OTHER_MEMORY)


@torch.no_grad()
def test_frames_that_do_not_fit_together_are_coded_one_by_one():
    class Small(SpaceToDepth):
        """Memory for one frame."""

        def decode(self, latents):
            if len(latents) > 1:
                raise torch.OutOfMemoryError("8 GiB")
            return super().decode(latents)

    images = torch.rand(1, 3, 3, 8, 8)
    codec = codec_for(Small(4))
    torch.testing.assert_close(codec.decode(codec.encode(images)), images)


@torch.no_grad()
def test_replayed_codecs_give_the_same(kind):
    vae, channels, _ = kind

    def recorder(run):  # replays by running again
        output = run().clone()
        return lambda: output.copy_(run()), output

    plain = codec_for(vae, 2)
    replayed = codec_for(vae, 2).replayed(lambda half: Recorded(half, recorder))
    for _ in range(2):
        images, noise = torch.rand(1, 5, 3, 16, 24), torch.randn(1, 5, channels, 4, 6)
        assert torch.equal(replayed.encode(images, noise), plain.encode(images, noise))
        assert torch.equal(replayed.encode(images), plain.encode(images))
        assert torch.equal(replayed.decode(noise), plain.decode(noise))
