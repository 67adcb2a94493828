"""Stable Diffusion autoencoder checkpoints <-> diffusers' AutoencoderKL, key by key, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL
from torch import Tensor

from fvgen.checks import require

_SCALING_FACTOR = 0.18215

_RESNET = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
_SINGLE = {
    "quant_conv": "quant_conv",
    "post_quant_conv": "post_quant_conv",
    **{f"{side}.{end}": f"{side}.{end}" for side in ("encoder", "decoder") for end in ("conv_in", "conv_out")},
    **{f"{side}.norm_out": f"{side}.conv_norm_out" for side in ("encoder", "decoder")},
}


def _module_names(config: Mapping[str, Any]) -> dict[str, str]:
    """Checkpoint module name -> diffusers module name for an autoencoder of this diffusers configuration."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    names = dict(_SINGLE)
    for side in ("encoder", "decoder"):
        down = side == "encoder"
        for block in (0, 1):
            names |= {
                f"{side}.mid.block_{block + 1}.{a}": f"{side}.mid_block.resnets.{block}.{b}" for a, b in _RESNET.items()
            }
        names |= {f"{side}.mid.attn_1.{a}": f"{side}.mid_block.attentions.0.{b}" for a, b in _ATTENTION.items()}
        for level in range(levels):
            # decoder.up is numbered by resolution (highest number = lowest resolution), diffusers by order of use.
            old = f"{side}.{'down' if down else 'up'}.{level}"
            new_level = level if down else levels - 1 - level
            new = f"{side}.{'down' if down else 'up'}_blocks.{new_level}"
            for layer in range(layers if down else layers + 1):
                names |= {f"{old}.block.{layer}.{a}": f"{new}.resnets.{layer}.{b}" for a, b in _RESNET.items()}
                names |= {f"{old}.attn.{layer}.{a}": f"{new}.attentions.{layer}.{b}" for a, b in _ATTENTION.items()}
            names[f"{old}.{'down' if down else 'up'}sample.conv"] = f"{new}.{'down' if down else 'up'}samplers.0.conv"
    return names


def vae_config(ddconfig: Mapping[str, Any], embed_dim: int) -> dict[str, Any]:
    """AutoencoderKL arguments for a checkpoint's ``ddconfig`` (its yaml) and ``embed_dim``.

    Raises:
        InputError: for a configuration that AutoencoderKL cannot express.
    """
    require(
        ddconfig.get("double_z", True) and embed_dim == ddconfig["z_channels"],
        "ddconfig",
        "have double_z and embed_dim equal to z_channels",
        {**ddconfig, "embed_dim": embed_dim},
        "Only KL autoencoders of Stable Diffusion 1.x and 2.x are supported.",
    )
    mult = ddconfig["ch_mult"]
    # attn_resolutions counts from the yaml's nominal resolution, whatever size is really encoded.
    attends = [ddconfig["resolution"] // 2**level in ddconfig["attn_resolutions"] for level in range(len(mult))]
    return {
        "in_channels": ddconfig["in_channels"],
        "out_channels": ddconfig["out_ch"],
        "block_out_channels": tuple(ddconfig["ch"] * m for m in mult),
        "layers_per_block": ddconfig["num_res_blocks"],
        "latent_channels": ddconfig["z_channels"],
        "down_block_types": tuple("AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attends)),
        "sample_size": ddconfig["resolution"],
        "scaling_factor": _SCALING_FACTOR,
    }


def convert_vae_state_dict(
    state: Mapping[str, Tensor], config: Mapping[str, Any], *, to_checkpoint: bool = False
) -> dict[str, Tensor]:
    """An autoencoder's weights under the other naming; tensors are views, never copies.

    Args:
        state: weights under Stable Diffusion's names, without prefix (``first_stage_model.`` taken off).
        config: AutoencoderKL configuration (`vae_config`, or ``vae.config``).
        to_checkpoint: convert diffusers' names to Stable Diffusion's instead.

    Raises:
        InputError: for a key that the naming does not know.
    """
    table = _module_names(config)
    if to_checkpoint:
        table = {new: old for old, new in table.items()}
    converted, unknown = {}, []
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if module not in table or leaf not in ("weight", "bias"):
            unknown.append(key)
            continue
        converted[f"{table[module]}.{leaf}"] = _reshape_attention(key, value, to_checkpoint)
    require(
        not unknown,
        "vae state",
        "hold only a Stable Diffusion autoencoder's keys",
        f"{unknown[:5]} ({len(unknown)} unknown)",
        "Check that the file is what its name says.",
    )
    return converted


def _reshape_attention(key: str, value: Tensor, to_checkpoint: bool) -> Tensor:
    """Attention projections are 1x1 convolutions in checkpoints and linear layers in diffusers."""
    if to_checkpoint:
        linear = re.search(r"attentions\.\d+\.to_(q|k|v|out\.0)\.weight$", key)
        return value[:, :, None, None] if linear else value
    convolution = re.search(r"attn(_1|\.\d+)\.(q|k|v|proj_out)\.weight$", key)
    return value[:, :, 0, 0] if convolution and value.ndim == 4 else value


def load_vae(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> AutoencoderKL:
    """An AutoencoderKL with a checkpoint's weights, every key used."""
    vae = AutoencoderKL(**config)
    vae.load_state_dict(convert_vae_state_dict(state, config))
    return vae.eval()
