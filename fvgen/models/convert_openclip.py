"""OpenCLIP's towers <-> transformers' CLIPTextModel and CLIPVisionModel, key by key, both ways.

ViewCrafter takes the text tower's tokens before its last block (then the final layer norm) and all of the image tower's
tokens after its last block (no final layer norm, no projection). So the converted text tower has one block less and the
rest of what its checkpoint holds is dropped, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from fvgen.checks import require

_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_TEXT_SINGLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_VISION_SINGLE = {
    "visual.class_embedding": "embeddings.class_embedding",
    "visual.positional_embedding": "embeddings.position_embedding.weight",
    "visual.conv1.weight": "embeddings.patch_embedding.weight",
    **{f"visual.ln_pre.{leaf}": f"pre_layrnorm.{leaf}" for leaf in ("weight", "bias")},
    **{f"visual.ln_post.{leaf}": f"post_layernorm.{leaf}" for leaf in ("weight", "bias")},
}
TEXT_DROPPED = ("text_projection", "logit_scale")
"""Text tower keys without use here, besides the last block's."""
VISION_DROPPED = (
    "visual.proj",
    "token_embedding.weight",
    "positional_embedding",
    "ln_final.weight",
    "ln_final.bias",
    "text_projection",
    "logit_scale",
)
"""Image tower keys without use here: the projection, and what ViewCrafter left standing of the text tower."""


def text_config(
    *, vocab_size: int, width: int, heads: int, layers: int, context_length: int = 77, mlp_ratio: float = 4.0
) -> CLIPTextConfig:
    """Configuration of the text tower for an OpenCLIP tower of ``layers`` blocks, of which the last is left out."""
    return CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=int(width * mlp_ratio),
        num_hidden_layers=layers - 1,
        num_attention_heads=heads,
        max_position_embeddings=context_length,
        hidden_act="gelu",
        pad_token_id=0,
        # Only pooling would look for these, and nothing here pools; they must lie inside the vocabulary.
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
    )


def vision_config(
    *, image_size: int, patch_size: int, width: int, layers: int, head_width: int = 64, mlp_ratio: float = 4.0
) -> CLIPVisionConfig:
    """Configuration of the image tower for an OpenCLIP tower."""
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * mlp_ratio),
        num_hidden_layers=layers,
        num_attention_heads=width // head_width,
        image_size=image_size,
        patch_size=patch_size,
        hidden_act="gelu",
    )


def convert_openclip_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPTextModel weights (names below ``text_model.``) of an OpenCLIP text tower.

    Args:
        state: weights under OpenCLIP's names (``cond_stage_model.model.`` taken off). The block with the highest number
            is dropped.

    Raises:
        InputError: for a key that an OpenCLIP text tower does not have.
    """
    blocks = {int(match[1]) for key in state if (match := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
    require(
        len(blocks) >= 2,
        "text tower",
        "have at least 2 blocks",
        len(blocks),
        "Check that this is an OpenCLIP checkpoint.",
    )
    last = f"transformer.resblocks.{max(blocks)}."
    dropped = [key for key in state if key in TEXT_DROPPED or key.startswith(last)]
    return _from_openclip(state, dropped, "transformer.resblocks.", _TEXT_SINGLE, "text tower")


def convert_openclip_vision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPVisionModel weights (names below ``vision_model.``) of an OpenCLIP image tower.

    Args:
        state: weights under OpenCLIP's names (``embedder.model.`` taken off).

    Raises:
        InputError: for a key that an OpenCLIP model does not have.
    """
    dropped = [key for key in state if key in VISION_DROPPED]
    prefix = "visual.transformer.resblocks."
    return _from_openclip(state, dropped, prefix, _VISION_SINGLE, "image tower")


def restore_openclip_text(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP names of CLIPTextModel weights (below ``text_model.``)."""
    return _to_openclip(state, "transformer.resblocks.", _TEXT_SINGLE)


def restore_openclip_vision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP names of CLIPVisionModel weights (below ``vision_model.``)."""
    return _to_openclip(state, "visual.transformer.resblocks.", _VISION_SINGLE)


def _from_openclip(
    state: Mapping[str, Tensor], dropped: list[str], prefix: str, single: Mapping[str, str], what: str
) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        if key in dropped:
            continue
        if key in single:
            converted[single[key]] = value
            continue
        match = re.match(rf"{re.escape(prefix)}(\d+)\.(.+)$", key)
        number, rest = (match[1], match[2]) if match else ("", "")
        module, _, leaf = rest.rpartition(".")
        layer = f"encoder.layers.{number}"
        if rest in ("attn.in_proj_weight", "attn.in_proj_bias"):  # queries, keys and values in one matrix
            leaf = rest.removeprefix("attn.in_proj_")
            for name, part in zip("qkv", value.chunk(3), strict=True):
                converted[f"{layer}.self_attn.{name}_proj.{leaf}"] = part
        elif module in _BLOCK:
            converted[f"{layer}.{_BLOCK[module]}.{leaf}"] = value
        else:
            unknown.append(key)
    require(
        not unknown,
        what,
        "hold only an OpenCLIP tower's keys",
        f"{unknown[:5]} ({len(unknown)} unknown)",
        "Check that the file is what its name says.",
    )
    return converted


def _to_openclip(state: Mapping[str, Tensor], prefix: str, single: Mapping[str, str]) -> dict[str, Tensor]:
    single = {new: old for old, new in single.items()}
    modules = {new: old for old, new in _BLOCK.items()}
    restored: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in single:
            restored[single[key]] = value
            continue
        match = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", key)
        require(match is not None, "CLIP state", "hold only a tower's keys", key, "Give the tower's own state dict.")
        number, module, leaf = match.groups()  # type: ignore[union-attr]
        if module == "self_attn.q_proj":
            parts = [state[key.replace("q_proj", f"{name}_proj")] for name in "qkv"]
            restored[f"{prefix}{number}.attn.in_proj_{leaf}"] = torch.cat(parts)
        elif module not in ("self_attn.k_proj", "self_attn.v_proj"):
            restored[f"{prefix}{number}.{modules[module]}.{leaf}"] = value
    return restored


def tower_state(tower: nn.Module) -> dict[str, Tensor]:
    """A tower's weights under the names that the converters use, without the prefix some transformers versions add."""
    return {re.sub(r"^(text|vision)_model\.", "", key): value for key, value in tower.state_dict().items()}


def load_tower(tower: CLIPTextModel | CLIPVisionModel, converted: Mapping[str, Tensor]) -> None:
    """Load converted weights into a tower, every key used and none missing."""
    names = {re.sub(r"^(text|vision)_model\.", "", key): key for key in tower.state_dict()}
    tower.load_state_dict({names.get(key, key): value for key, value in converted.items()})


def text_tower(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> CLIPTextModel:
    """The text tower with OpenCLIP weights; ``config`` holds the arguments of `text_config`."""
    tower = CLIPTextModel(text_config(**config)).eval()
    load_tower(tower, convert_openclip_text(state))
    return tower


def vision_tower(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> CLIPVisionModel:
    """The image tower with OpenCLIP weights; ``config`` holds the arguments of `vision_config`."""
    tower = CLIPVisionModel(vision_config(**config)).eval()
    load_tower(tower, convert_openclip_vision(state))
    return tower
