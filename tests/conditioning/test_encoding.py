"""What the frozen towers are given and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d

from fvgen.checks import InputError
from fvgen.conditioning.clip_preprocess import CLIP_MEAN, CLIP_STD, clip_preprocess
from fvgen.conditioning.conditions import encode_conditions, insert_photos
from fvgen.conditioning.encoders import TokenEncoder
from fvgen.conditioning.prompts import EMPTY_IDS, PROMPT, PROMPT_IDS, token_ids
from fvgen.models.codec import SpaceToDepth, codec_for


def normalised(values: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v)[:, None, None] for v in (CLIP_MEAN, CLIP_STD))
    return (values - mean) / std


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("size", [(100, 80), (320, 512), (224, 224)])
def test_a_plain_image_stays_plain(value, size):
    pixels = clip_preprocess(torch.full((1, 3, *size), value))
    expected = normalised(torch.full((1, 3, 224, 224), value))
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


def test_blur_against_scipy():
    """Shrinking: Gaussian of (factor - 1) / 2 pixels over int(max(4 sigma, 3)) taps made odd, mirrored; bicubic."""
    image = torch.rand(1, 3, 300, 400, generator=torch.Generator().manual_seed(0))
    blurred = image.numpy().astype(np.float64)
    for axis, length in ((2, 300), (3, 400)):
        sigma = (length / 100 - 1) / 2
        taps = int(max(4 * sigma, 3))
        half = taps // 2
        kernel = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
        blurred = convolve1d(blurred, kernel / kernel.sum(), axis=axis, mode="mirror")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(blurred), (100, 100), mode="bicubic", align_corners=True
    )
    torch.testing.assert_close(clip_preprocess(image, 100).double(), normalised(expected), atol=1e-4, rtol=0)


def test_growing_images_are_not_blurred():
    """With corners aligned, the corners of an enlarged image are its own."""
    image = torch.rand(1, 3, 30, 40)
    pixels = clip_preprocess(image)
    torch.testing.assert_close(pixels[..., 0, 0], normalised(image)[..., 0, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels[..., -1, -1], normalised(image)[..., -1, -1], atol=1e-5, rtol=0)


def test_preprocess_wants_a_batch():
    with pytest.raises(InputError, match=r"images must have shape \[N, 3, H, W\]"):
        clip_preprocess(torch.rand(3, 10, 10))


def test_token_ids():
    assert token_ids(PROMPT).tolist() == [list(PROMPT_IDS)] and token_ids("").tolist() == [list(EMPTY_IDS)]
    assert len(PROMPT_IDS) == len(EMPTY_IDS) == 77
    with pytest.raises(InputError, match="prompt must be 'Rotating view of a scene' without a tokenizer"):
        token_ids("a cat")


def test_other_prompts_through_a_tokenizer_folder(tmp_path):
    vocabulary = {
        "<|startoftext|>": 0,
        "<|endoftext|>": 1,
        "a</w>": 2,
        "c": 3,
        "at</w>": 4,
        "cat</w>": 5,
        "a": 6,
        "t</w>": 7,
    }
    import json

    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t</w>\nc at</w>\n")
    ids = token_ids("a cat", tmp_path)
    assert ids.shape == (1, 77)
    assert ids[0, :5].tolist() == [0, 2, 5, 1, 0]
    with pytest.raises(InputError, match="prompt must fit in 77 tokens, got 102"):
        token_ids("a " * 100, tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"tokenizer_folder must hold a CLIP tokenizer, got .* without merges\.txt\."):
        token_ids("a cat", tmp_path)


def test_photos_take_their_places():
    renders = torch.zeros(2, 4, 3, 8, 8)
    photos = torch.stack([torch.full((2, 3, 8, 8), 0.25), torch.full((2, 3, 8, 8), 0.75)], dim=1)
    clips = insert_photos(renders, photos, (0, -1))
    assert clips[:, :, 0, 0, 0].tolist() == [[0.25, 0, 0, 0.75]] * 2
    assert renders.abs().max() == 0  # the caller's renders are not touched
    with pytest.raises(InputError, match="photos must have shape"):
        insert_photos(renders, photos, (0,))
    with pytest.raises(InputError, match="photo_frames must name different"):
        insert_photos(renders, photos, (0, -4))


def no_towers():
    return TokenEncoder(None, None, None, context_dim=6, text_length=1)


def test_conditions_without_towers_have_zero_tokens():
    clips = torch.rand(2, 3, 3, 8, 8)
    conditions = encode_conditions(
        clips, codec_for(SpaceToDepth(4)), no_towers(), device=torch.device("cpu"), posterior_noise=None, guidance=False
    )
    assert conditions.render_latents.shape == (2, 3, 48, 2, 2)
    assert conditions.tokens.shape == (2, 1, 6) and conditions.tokens.abs().max() == 0
    assert conditions.fps.tolist() == [10, 10]
    assert not no_towers().has_conditions
    with pytest.raises(InputError, match="unconditional_tokens must be given"):
        conditions.unconditional()


class Tower(torch.nn.Module):
    """Answers with its mean, so that what it was shown can be read off."""

    dtype = torch.float32

    class config:
        image_size, hidden_size, embedding_dim, output_dim = 16, 6, 6, 6
        max_position_embeddings, vocab_size = 77, 49408

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, x):
        self.shown.append(x)
        if x.ndim == 3:
            return x
        mean = x.float().flatten(1).mean(1)[:, None, None].expand(-1, 2 if x.ndim == 4 else 77, 6)
        return type("Output", (), {"last_hidden_state": mean})


def test_unconditional_is_no_text_and_a_grey_image_and_everything_fixed_is_encoded_once():
    image, projector, text = Tower(), Tower(), Tower()
    encoder = TokenEncoder(image, projector, text, context_dim=6)
    cpu = torch.device("cpu")
    for _ in range(2):
        tokens = encoder.tokens(torch.rand(2, 3, 20, 20), PROMPT, cpu)
        empty = encoder.unconditional_tokens(2, cpu)
    assert tokens.shape == empty.shape == (2, 79, 6)
    assert [ids.tolist() for ids in text.shown] == [[list(PROMPT_IDS)], [list(EMPTY_IDS)]]
    assert len(image.shown) == 3  # two batches and the grey image
    grey = image.shown[1]
    torch.testing.assert_close(grey, normalised(torch.full((1, 3, 16, 16), 0.5)), atol=1e-5, rtol=0)


def test_towers_must_fit_together():
    with pytest.raises(InputError, match="image_encoder and image_projector must come together"):
        TokenEncoder(Tower(), None, None, context_dim=6)
    with pytest.raises(InputError, match="must have width 8"):
        TokenEncoder(Tower(), Tower(), None, context_dim=8)
    with pytest.raises(InputError, match="text_encoder must give 1 tokens"):
        TokenEncoder(None, None, Tower(), context_dim=6, text_length=1)


def test_a_vocabulary_too_small_is_refused(monkeypatch):
    monkeypatch.setattr(Tower.config, "vocab_size", 1000)
    with pytest.raises(InputError, match="text_encoder must know token 49407"):
        TokenEncoder(None, None, Tower(), context_dim=6).tokens(torch.rand(1, 3, 8, 8), PROMPT, torch.device("cpu"))
