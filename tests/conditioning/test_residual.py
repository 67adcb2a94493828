"""Residuals on a warped clip: exact both ways, and nothing at all where the network says nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from fvgen.checks import InputError
from fvgen.conditioning.residual import (
    SMOOTHINGS,
    ResidualSpace,
    WarpedClips,
    residual_condition,
    residual_condition_channels,
    smoothed,
    warped_clips_of,
)
from fvgen.models.codec import SpaceToDepth, SpaceToDepthCodec


def codec(patch_size: int = 4, std: float = 0.5) -> SpaceToDepthCodec:
    vae = SpaceToDepth(patch_size)
    vae.pixel_std.fill_(std)
    vae.pixel_mean.fill_(0.4)
    return SpaceToDepthCodec(vae)


def clips(seed: int = 0, frames: int = 3) -> WarpedClips:
    generator = torch.Generator().manual_seed(seed)
    size = (2, frames, 3, 8, 16)
    photo = torch.zeros(2, frames, dtype=torch.bool)
    photo[:, [0, -1]] = True
    covered = torch.rand(2, frames, 1, 8, 16, generator=generator) < 0.5
    covered = covered | photo[:, :, None, None, None]
    warp = torch.rand(size, generator=generator)
    return WarpedClips(
        render=torch.where(photo[:, :, None, None, None], warp, covered * torch.rand(size, generator=generator)),
        warp=warp,
        covered=covered,
        confidence=torch.rand(2, frames, 1, 8, 16, generator=generator),
        photo=photo,
    )


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**16), untrusted=st.floats(0.01, 1), trusted=st.floats(0.01, 1), std=st.floats(0.1, 1),
)  # fmt: skip
def test_round_trip(seed, untrusted, trusted, std):
    space, known = ResidualSpace(trusted=trusted, untrusted=untrusted), clips(seed)
    images = torch.rand(known.warp.shape, generator=torch.Generator().manual_seed(seed + 1))
    images[known.photo] = known.warp[known.photo]
    again = space.decode(space.encode(images, known, codec(std=std)), known, codec(std=std))
    torch.testing.assert_close(again, images, atol=2e-6, rtol=0)  # a few float32 roundings of values up to 10


def test_no_residual_is_the_warp():
    known = clips()
    latents = torch.zeros(2, 3, codec().latent_channels, 2, 4)
    torch.testing.assert_close(ResidualSpace().decode(latents, known, codec()), known.warp, atol=1e-6, rtol=0)


def test_photos_are_untouched_whatever_the_network_says():
    known = clips()
    images = ResidualSpace().decode(torch.randn(2, 3, codec().latent_channels, 2, 4), known, codec())
    assert torch.equal(images[known.photo], known.warp[known.photo])
    assert not torch.equal(images, known.warp)


def test_scale_follows_trust_pixel_by_pixel():
    """One unit of a latent moves its pixel by the scale of that pixel's confidence."""
    known, space = replace(clips(), warp=torch.full((2, 3, 3, 8, 16), 0.5)), ResidualSpace(trusted=0.1, untrusted=0.3)
    one = torch.ones(2, 3, codec().latent_channels, 2, 4)
    moved = space.decode(one, known, codec()) - 0.5
    expected = (0.3 - 0.2 * known.confidence) * ~known.photo[:, :, None, None, None]
    torch.testing.assert_close(moved, expected.expand_as(moved), atol=1e-6, rtol=0)


def test_condition_holds_every_pixel():
    known, code, space = clips(), codec(), ResidualSpace()
    stack = residual_condition(known, space, code)
    assert stack.shape == (2, 3, residual_condition_channels(code), 2, 4)
    residuals, masks, warp = stack.split([3 * code.latent_channels, 3 * 16, code.latent_channels], dim=2)
    torch.testing.assert_close(code.decode(warp), known.warp)
    whole = torch.nn.functional.pixel_shuffle(masks.flatten(0, 1), 4).unflatten(0, (2, 3))
    assert torch.equal(whole[:, :, 0] > 0, known.photo[:, :, None, None].expand(2, 3, 8, 16))
    assert torch.equal(whole[:, :, 1:2] > 0, known.covered)
    torch.testing.assert_close(whole[:, :, 2:] / 2 + 0.5, known.confidence)
    render, fine, coarse = (space.decode(part, known, code) for part in residuals.split(code.latent_channels, dim=2))
    torch.testing.assert_close(render, torch.where(known.covered, known.render, known.warp), atol=1e-6, rtol=0)
    for candidate, sigma in ((fine, SMOOTHINGS[0]), (coarse, SMOOTHINGS[1])):
        expected = smoothed(known.warp, known.confidence**2, sigma)
        expected[known.photo] = known.warp[known.photo]
        torch.testing.assert_close(candidate, expected, atol=1e-6, rtol=0)


def test_smoothing_is_a_mean_under_weights():
    """Against SciPy's filter, and: what weighs nothing leaves no trace, what is constant stays as it is."""
    known = clips()
    images, weight = known.warp, known.confidence
    reach, ours = math.ceil(2.5 * 1.5), smoothed(images, weight, 1.5)
    blur = partial(gaussian_filter, sigma=1.5, axes=(3, 4), radius=reach, mode="constant")
    over, under = blur((images * weight).double().numpy()), blur(weight.double().numpy())
    expected = (over + 1e-4 * images.double().numpy()) / (under + 1e-4)
    torch.testing.assert_close(ours.double(), torch.from_numpy(expected), atol=1e-5, rtol=0)
    hidden = torch.where(weight > 0.5, 1.0, 0.0)
    one, other = (smoothed(torch.where(hidden > 0, images, dirt), hidden, 1.5) for dirt in (0.0, 1.0))
    seen = hidden.expand_as(one) > 0
    torch.testing.assert_close(one[seen], other[seen], atol=2e-4, rtol=0)
    torch.testing.assert_close(smoothed(torch.full_like(images, 0.3), weight, 6.0), torch.full_like(images, 0.3))


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="untrusted must be a positive scale, got 0"):
        ResidualSpace(untrusted=0)
    with pytest.raises(InputError, match=r"covered must have shape \(2, 3, 1, 8, 16\)"):
        replace(clips(), covered=torch.ones(2, 3, 8, 16, dtype=torch.bool))


def test_a_condition_holds_all_of_its_clips():
    known = clips(seed=3)
    found = warped_clips_of(residual_condition(known, ResidualSpace(), codec()), ResidualSpace(), codec())
    for name in ("render", "warp", "confidence"):
        torch.testing.assert_close(getattr(found, name), getattr(known, name), atol=1e-6, rtol=0)
    assert torch.equal(found.covered, known.covered) and torch.equal(found.photo, known.photo)
