"""Clips are accepted by the codec that encoded them, whatever it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

from fvgen.checks import InputError
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.data.clip_encodings import LatentEncoding, PixelEncoding
from fvgen.distillation.clip_checks import check_codec
from fvgen.models.codec import SpaceToDepth, codec_for


def autoencoder(seed: int = 0, scaling_factor: float = 0.2) -> AutoencoderKL:
    torch.manual_seed(seed)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        block_out_channels=(8,),
        norm_num_groups=4,
        latent_channels=2,
        sample_size=8,
        scaling_factor=scaling_factor,
    )


def folder(path: Path, vae: torch.nn.Module, residual: dict | None = None) -> Path:
    """As much of a pipeline as is looked at."""
    vae.save_pretrained(path / "vae")
    index = {"vae": ["diffusers", type(vae).__name__], **({"residual": residual} if residual else {})}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def encoded_by(vae: AutoencoderKL) -> dict:
    """What clips' index says of the codec."""
    tokens = TokenEncoder(None, None, None, context_dim=6, text_length=2)
    meta = LatentEncoding("model", codec_for(vae), tokens, torch.device("cpu")).meta
    return json.loads(json.dumps(meta))


@pytest.fixture
def teacher(tmp_path) -> Path:
    return folder(tmp_path, autoencoder())


def test_the_teachers_own_codec_is_known_in_any_precision_and_with_any_decoder(teacher):
    vae = autoencoder()
    with torch.no_grad():
        vae.decoder.conv_in.weight.add_(1)
    check_codec(encoded_by(vae), teacher)
    check_codec(encoded_by(vae.bfloat16()), teacher)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"scaling_factor": 0.3}, r"the clips' codec must have the teacher's scaling_factor 0\.2, got 0\.3"),
        ({"seed": 1}, r"the clips' codec must have the teacher's weights \(\w{12}\), got \w{12}\. Prepare the clips"),
    ],
)
def test_another_codec_of_the_same_kind_is_refused(teacher, other, words):
    with pytest.raises(InputError, match=words):
        check_codec(encoded_by(autoencoder(**other)), teacher)


def test_clips_from_before_fingerprints_are_taken_with_a_warning(teacher):
    meta = encoded_by(autoencoder())
    del meta["codec"]["fingerprint"], meta["codec"]["scaling_factor"]
    with pytest.warns(UserWarning, match="do not record whose weights encoded them"):
        check_codec(meta, teacher)


def test_pixels_are_for_teachers_of_their_statistics(tmp_path):
    meta = PixelEncoding(4).meta
    vae = SpaceToDepth(4)
    check_codec(meta, folder(tmp_path / "same", vae, meta["residual"]))
    vae.pixel_mean += 0.1
    with pytest.raises(InputError, match="the clips' codec must have the teacher's weights"):
        check_codec(meta, folder(tmp_path / "other", vae, meta["residual"]))
