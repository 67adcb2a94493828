"""What a ViewCrafter checkpoint holds: every tensor's name, shape and place in a pipeline.

The five networks are here; the schedule's tables and the files are `fvgen.generation.viewcrafter_checkpoint`'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from fvgen.models.convert_openclip import (
    TEXT_DROPPED,
    VISION_DROPPED,
    convert_openclip_text,
    convert_openclip_vision,
    restore_openclip_text,
    restore_openclip_vision,
    text_config,
    tower_state,
    vision_config,
)
from fvgen.models.convert_vae import convert_vae_state_dict, vae_config
from fvgen.models.convert_viewcrafter_unet import (
    convert_unet_state_dict,
    revert_unet_state_dict,
    viewcrafter_unet_layout,
)
from fvgen.models.image_projector import ImageProjector
from fvgen.models.unet_3d import VideoUNet

Tensors = Mapping[str, Tensor]
Shapes = dict[str, tuple[int, ...]]


_SD_AUTOENCODER = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
}


@dataclass(frozen=True)
class Architecture:
    """Arguments of the five networks; the defaults are those of every release. Tests shrink them."""

    unet: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `VideoUNet`."""
    vae: Mapping[str, Any] = field(default_factory=lambda: vae_config(_SD_AUTOENCODER, embed_dim=4))
    """Arguments of diffusers' AutoencoderKL."""
    text: Mapping[str, Any] = field(
        default_factory=lambda: {"vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24}
    )
    """Arguments of `text_config`."""
    vision: Mapping[str, Any] = field(
        default_factory=lambda: {"image_size": 224, "patch_size": 14, "width": 1280, "head_width": 80, "layers": 32}
    )
    """Arguments of `vision_config`."""
    clip_dim: int = 1024
    """Width of the space that the two towers were trained to meet in."""
    projector: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `ImageProjector`."""


@dataclass(frozen=True)
class Component:
    """A part of the checkpoint that becomes one folder of the pipeline."""

    folder: str
    prefix: str
    """How its tensors' names begin in the checkpoint."""
    build: Callable[[], nn.Module]
    """An empty network; call it on the meta device."""
    shapes: Callable[[Any], Shapes]
    """Every name (without prefix) and shape in the checkpoint, given the empty network."""
    convert: Callable[[Tensors, Any], dict[str, Tensor]]
    """The network's weights from the checkpoint's: views."""
    revert: Callable[[Tensors, Any], dict[str, Tensor]]
    """The checkpoint's from the network's, those in ``dropped`` left out."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Tensors of the checkpoint that no network here has, and why. A name ending in a dot stands for all below it."""

    def reason_dropped(self, name: str) -> str | None:
        """Why the tensor ``name`` (without prefix) has no place here; None where it has one."""
        for entry, reason in self.dropped.items():
            if name == entry or (entry.endswith(".") and name.startswith(entry)):
                return reason
        return None

    def empty(self) -> nn.Module:
        """The network without storage."""
        with torch.device("meta"):
            return self.build().eval()


def _shapes_of(tensors: Tensors) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _unet(architecture: Architecture) -> Component:
    return Component(
        folder="unet",
        prefix="model.diffusion_model.",
        build=lambda: VideoUNet(**architecture.unet),
        shapes=lambda unet: {name: shape for name, (_, shape) in viewcrafter_unet_layout(unet).items()},
        convert=convert_unet_state_dict,
        revert=revert_unet_state_dict,
    )


def _vae(architecture: Architecture) -> Component:
    def convert(state: Tensors, vae: nn.Module) -> dict[str, Tensor]:
        return convert_vae_state_dict(state, architecture.vae)

    def revert(state: Tensors, vae: nn.Module) -> dict[str, Tensor]:
        return convert_vae_state_dict(state, architecture.vae, to_checkpoint=True)

    return Component(
        folder="vae",
        prefix="first_stage_model.",
        build=lambda: AutoencoderKL(**architecture.vae),
        shapes=lambda vae: _shapes_of(revert(vae.state_dict(), vae)),
        convert=convert,
        revert=revert,
    )


_REASONS = {
    "text_projection": "maps to the space shared by both towers; ViewCrafter uses tokens, not that space",
    "logit_scale": "temperature of CLIP's training",
    "visual.proj": "maps to the space shared by both towers; ViewCrafter uses tokens, not that space",
    "token_embedding.weight": "left over from the image tower's text half",
    "positional_embedding": "left over from the image tower's text half",
    "ln_final.weight": "left over from the image tower's text half",
    "ln_final.bias": "left over from the image tower's text half",
}


def _text(architecture: Architecture) -> Component:
    config = architecture.text
    width, last = config["width"], f"transformer.resblocks.{config['layers'] - 1}."

    def shapes(tower: nn.Module) -> Shapes:
        present = _shapes_of(restore_openclip_text(tower_state(tower)))
        first = "transformer.resblocks.0."
        unused_block = {name.replace(first, last): shape for name, shape in present.items() if name.startswith(first)}
        return {**present, **unused_block, "text_projection": (width, architecture.clip_dim), "logit_scale": ()}

    return Component(
        folder="text_encoder",
        prefix="cond_stage_model.model.",
        build=lambda: CLIPTextModel(text_config(**config)),
        shapes=shapes,
        convert=lambda state, tower: _tower_names(convert_openclip_text(state), tower),
        revert=lambda state, tower: restore_openclip_text(_short_names(state)),
        dropped={last: "the tokens are taken before the last block"} | {name: _REASONS[name] for name in TEXT_DROPPED},
    )


def _vision(architecture: Architecture) -> Component:
    width, text_width = architecture.vision["width"], architecture.text["width"]

    def shapes(tower: nn.Module) -> Shapes:
        return _shapes_of(restore_openclip_vision(tower_state(tower))) | {
            "visual.proj": (width, architecture.clip_dim),
            "token_embedding.weight": (architecture.text["vocab_size"], text_width),
            "positional_embedding": (architecture.text.get("context_length", 77), text_width),
            "ln_final.weight": (text_width,),
            "ln_final.bias": (text_width,),
            "text_projection": (text_width, architecture.clip_dim),
            "logit_scale": (),
        }

    return Component(
        folder="image_encoder",
        prefix="embedder.model.",
        build=lambda: CLIPVisionModel(vision_config(**architecture.vision)),
        shapes=shapes,
        convert=lambda state, tower: _tower_names(convert_openclip_vision(state), tower),
        revert=lambda state, tower: restore_openclip_vision(_short_names(state)),
        dropped={name: _REASONS[name] for name in VISION_DROPPED},
    )


def _tower_names(converted: Tensors, tower: nn.Module) -> dict[str, Tensor]:
    """Converted weights under the names of ``tower``, which some transformers versions prefix."""
    return {full: converted[short] for full, short in zip(tower.state_dict(), tower_state(tower), strict=True)}


def _short_names(state: Tensors) -> dict[str, Tensor]:
    return {re.sub(r"^(text|vision)_model\.", "", name): tensor for name, tensor in state.items()}


def _projector(architecture: Architecture) -> Component:
    return Component(
        folder="image_projector",
        prefix="image_proj_model.",
        build=lambda: ImageProjector(**architecture.projector),
        shapes=lambda projector: _shapes_of(projector.state_dict()),
        convert=lambda state, projector: dict(state),
        revert=lambda state, projector: dict(state),
    )


def components(architecture: Architecture) -> list[Component]:
    """The five networks of a checkpoint, largest first."""
    return [build(architecture) for build in (_unet, _vision, _text, _vae, _projector)]
