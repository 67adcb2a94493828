"""TAESD in place of a network's autoencoder: loaded from its own format, measured, refused where it does not fit."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderTiny

from fvgen.checks import InputError
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.generation.tiny_codec import codec_cost
from fvgen.metrics import psnr
from fvgen.models.codec import SpaceToDepth, codec_for


def saved(folder, blocks: int):
    torch.manual_seed(0)
    sizes = {f"{half}_block_out_channels": (8,) * blocks for half in ("encoder", "decoder")}
    counts = {f"num_{half}_blocks": (1,) * blocks for half in ("encoder", "decoder")}
    AutoencoderTiny(**sizes, **counts).save_pretrained(folder)
    return folder


def test_a_teacher_draws_with_it_and_its_cost_is_measured(tiny_model, tmp_path):
    plain = DiffusionViews(kind="teacher", model=tiny_model("teacher"))
    own = codec_for(plain.pipeline.vae)
    blocks = own.downscale.bit_length()
    views = DiffusionViews(kind="teacher", model=tiny_model("teacher"), tiny_codec=saved(tmp_path / "taesd", blocks))
    assert isinstance(views.pipeline.vae, AutoencoderTiny)
    photos = torch.rand(2, 3, 17, 24)
    cost = views.codec_cost(photos)
    assert plain.codec_cost(photos) is None
    with torch.no_grad():
        drawn = own.decode(own.encode(photos[None, :, :, :16]))[0]
    expected = sum(float(psnr(drawn[i], photos[i, :, :16])) for i in range(2)) / 2
    assert cost.own == pytest.approx(expected, abs=0.01)
    assert str(cost).startswith(f"TAESD on 2 photos: {cost.between:.1f} dB against the autoencoder")


def test_a_codec_costs_nothing_against_itself():
    codec = codec_for(SpaceToDepth(4))
    cost = codec_cost(codec, codec, torch.rand(1, 3, 16, 24))
    assert cost.between > 60 and cost.own == cost.tiny


def test_one_for_other_latents_is_refused(tiny_model, tmp_path):
    views = DiffusionViews(kind="teacher", model=tiny_model("teacher"), tiny_codec=saved(tmp_path / "taesd", 5))
    with pytest.raises(InputError, match="tiny codec must have 4 channels of latents at 1/"):
        _ = views.pipeline
