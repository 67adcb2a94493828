"""Autoencoder, image projector and CLIP towers under the original's names, against independent plain torch."""

from __future__ import annotations

import pytest
import torch
from same_weights import OTHER_MEMORY, assert_same_weights
from torch import nn

from fvgen.checks import InputError
from fvgen.models.convert_openclip import (
    convert_openclip_text,
    convert_openclip_vision,
    restore_openclip_text,
    restore_openclip_vision,
    text_tower,
    tower_state,
    vision_tower,
)
from fvgen.models.convert_vae import convert_vae_state_dict, load_vae, vae_config
from fvgen.models.image_projector import ImageProjector

DDCONFIG = {"double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32}
TEXT = {"vocab_size": 50, "width": 16, "heads": 2, "layers": 3, "context_length": 12}
VISION = {"image_size": 28, "patch_size": 14, "width": 16, "head_width": 8, "layers": 2}


class OpenClipBlock(nn.Module):
    """A transformer block with OpenCLIP's names, on nn.MultiheadAttention as OpenCLIP itself has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x, mask=None):
        normal = self.ln_1(x)
        x = x + self.attn(normal, normal, normal, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.mark.parametrize(
    ("ch_mult", "num_res_blocks", "attn_resolutions"), [([1, 2], 1, []), ([1, 2, 2], 2, []), ([1, 2], 1, [32])]
)
def test_autoencoder_names_go_there_and_back(ch_mult, num_res_blocks, attn_resolutions):
    ddconfig = DDCONFIG | {"ch_mult": ch_mult, "num_res_blocks": num_res_blocks, "attn_resolutions": attn_resolutions}
    config = vae_config(ddconfig, embed_dim=4)
    from diffusers import AutoencoderKL

    vae = randomised(AutoencoderKL(**config))
    original = convert_vae_state_dict(vae.state_dict(), config, to_checkpoint=True)
    assert len(original) == len(vae.state_dict())
    assert original["encoder.mid.attn_1.q.weight"].ndim == 4
    assert any(name.startswith("decoder.up.0.") for name in original)
    loaded = load_vae(original, config)
    for name, tensor in vae.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_lowest_resolution_has_the_highest_number_in_the_decoder():
    config = vae_config(DDCONFIG | {"ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": []}, embed_dim=4)
    wide = {"decoder.up.1.block.0.conv1.weight": torch.zeros(64, 64, 3, 3)}
    assert list(convert_vae_state_dict(wide, config)) == ["decoder.up_blocks.0.resnets.0.conv1.weight"]


def test_unknown_autoencoder_keys_are_refused():
    config = vae_config(DDCONFIG | {"ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": []}, embed_dim=4)
    with pytest.raises(InputError, match=r"loss\.weight"):
        convert_vae_state_dict({"loss.weight": torch.zeros(1)}, config)
    with pytest.raises(InputError, match="embed_dim equal to z_channels"):
        vae_config(DDCONFIG | {"ch_mult": [1], "num_res_blocks": 1, "attn_resolutions": []}, embed_dim=3)


def openclip_text():
    width = TEXT["width"]
    model = nn.Module()
    model.token_embedding = nn.Embedding(TEXT["vocab_size"], width)
    model.positional_embedding = nn.Parameter(torch.empty(TEXT["context_length"], width))
    model.transformer = nn.Module()
    model.transformer.resblocks = nn.ModuleList(OpenClipBlock(width, TEXT["heads"]) for _ in range(TEXT["layers"]))
    model.ln_final = nn.LayerNorm(width)
    model.text_projection = nn.Parameter(torch.empty(width, width))
    model.logit_scale = nn.Parameter(torch.empty(()))
    return randomised(model)


@torch.no_grad()
def test_text_tower_stops_before_its_last_block():
    model = openclip_text()
    state = model.state_dict()
    ids = torch.randint(1, TEXT["vocab_size"], (2, TEXT["context_length"]))
    ids[:, 7:] = 0  # padding is attended to like any token, but only by later ones
    x = model.token_embedding(ids) + model.positional_embedding
    mask = torch.full((TEXT["context_length"],) * 2, -torch.inf).triu(1)
    for block in model.transformer.resblocks[:-1]:
        x = block(x, mask)
    tower = text_tower(state, TEXT)
    torch.testing.assert_close(tower(ids).last_hidden_state, model.ln_final(x), atol=1e-5, rtol=1e-5)

    dropped = {n for n in state if "resblocks.2." in n} | {"text_projection", "logit_scale"}
    restored = restore_openclip_text(tower_state(tower))
    assert set(restored) == set(state) - dropped
    assert all(torch.equal(tensor, state[name]) for name, tensor in restored.items())


@torch.no_grad()
def test_image_tower_gives_all_tokens_unnormalised():
    width, patches = VISION["width"], (VISION["image_size"] // VISION["patch_size"]) ** 2
    visual = nn.Module()
    visual.class_embedding = nn.Parameter(torch.empty(width))
    visual.positional_embedding = nn.Parameter(torch.empty(patches + 1, width))
    visual.conv1 = nn.Conv2d(3, width, VISION["patch_size"], stride=VISION["patch_size"], bias=False)
    visual.ln_pre, visual.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
    visual.transformer = nn.Module()
    heads = width // VISION["head_width"]
    visual.transformer.resblocks = nn.ModuleList(OpenClipBlock(width, heads) for _ in range(VISION["layers"]))
    visual.proj = nn.Parameter(torch.empty(width, width))
    model = openclip_text()
    del model.transformer
    model.visual = randomised(visual)
    state = model.state_dict()

    pixels = torch.randn(2, 3, VISION["image_size"], VISION["image_size"])
    x = visual.conv1(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([visual.class_embedding.expand(2, 1, -1), x], dim=1) + visual.positional_embedding
    x = visual.ln_pre(x)
    for block in visual.transformer.resblocks:
        x = block(x)
    tower = vision_tower(state, VISION)
    torch.testing.assert_close(tower(pixels).last_hidden_state, x, atol=1e-5, rtol=1e-5)

    restored = restore_openclip_vision(tower_state(tower))
    assert set(restored) == {n for n in state if n.startswith("visual.")} - {"visual.proj"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in restored.items())


@pytest.mark.parametrize("convert", [convert_openclip_text, convert_openclip_vision])
def test_strange_tower_keys_are_refused(convert):
    state = {f"transformer.resblocks.{i}.ln_1.weight": torch.zeros(2) for i in (0, 1)} if "text" in str(convert) else {}
    with pytest.raises(InputError, match=r"encoder\.layer"):
        convert({**state, "encoder.layer": torch.zeros(1)})


@torch.no_grad()
def test_projector_against_written_out_attention():
    """The original's order: queries and keys each times head_width^-1/4, softmax, then the sum."""
    sizes = {"dim": 24, "depth": 2, "dim_head": 8, "heads": 3, "num_queries": 2, "embedding_dim": 20, "output_dim": 12}
    projector = randomised(ImageProjector(**sizes, video_length=3))
    image = torch.randn(2, 7, 20)
    x, latents = projector.proj_in(image), projector.latents.repeat(2, 1, 1)
    for attention, feed_forward in projector.layers:
        tokens, queries = attention.norm1(x), attention.norm2(latents)
        q = attention.to_q(queries).view(2, -1, 3, 8).transpose(1, 2) * 8**-0.25
        k, v = attention.to_kv(torch.cat([tokens, queries], 1)).chunk(2, -1)
        k, v = (part.view(2, -1, 3, 8).transpose(1, 2) for part in (k, v))
        weights = (q @ (k * 8**-0.25).transpose(2, 3)).softmax(-1)
        latents = latents + attention.to_out((weights @ v).transpose(1, 2).reshape(2, -1, 24))
        latents = latents + feed_forward(latents)
    expected = projector.norm_out(projector.proj_out(latents))
    actual = projector(image)
    assert actual.shape == (2, 6, 12)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_projector_defaults_are_the_released_size():
    with torch.device("meta"):
        projector = ImageProjector()
    assert sum(p.numel() for p in projector.parameters()) == 48_787_456
    assert len(projector.state_dict()) == 51
    with pytest.raises(InputError, match="tokens must have shape"):
        projector(torch.empty(1, 5, 7, device="meta"))


def test_projector_folder_round_trip(tmp_path):
    projector = ImageProjector(dim=8, depth=1, dim_head=4, heads=2, num_queries=2, embedding_dim=6, output_dim=4)
    projector.save_pretrained(tmp_path)
    tokens = torch.randn(1, 3, 6)
    loaded = ImageProjector.from_pretrained(tmp_path)
    assert_same_weights(loaded, projector)
    torch.testing.assert_close(loaded(tokens), projector(tokens), **OTHER_MEMORY)
