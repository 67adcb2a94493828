"""The UNet's part of a ViewCrafter checkpoint: which of its names and numbers is which of ours, in both directions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require
from fvgen.models.attention import SpatialTransformer, TemporalTransformer
from fvgen.models.unet_3d import VideoUNet
from fvgen.models.unet_3d_blocks import ResBlock

_RENAMED = {
    **{name: name for name in ("in_channels", "out_channels", "model_channels", "channel_mult", "num_res_blocks")},
    **{name: name for name in ("attention_resolutions", "num_head_channels", "transformer_depth", "context_dim")},
    **{name: name for name in ("text_context_length", "image_cross_attention", "temporal_conv", "temporal_attention")},
    **{name: name for name in ("temporal_length", "dropout")},
    "image_cross_attention_scale_learnable": "learnable_image_scale",
    "addition_attention": "initial_attention",
    "use_causal_attention": "causal_temporal_attention",
    "fs_condition": "fps_condition",
    "default_fs": "default_fps",
}
_WHERE_ABSENT: dict[str, object] = {
    "channel_mult": (1, 2, 4, 8),
    "temporal_conv": False,
    "addition_attention": False,
    "image_cross_attention": False,
    "fs_condition": False,
    "default_fs": 4,
    "dropout": 0.0,
}
"""The original's defaults where they differ from ours."""
_FIXED: dict[str, object] = {
    "temporal_selfatt_only": True,
    "use_relative_position": False,
    "use_scale_shift_norm": False,
    "resblock_updown": False,
    "tempspatial_aware": False,
    "conv_resample": True,
    "dims": 2,
    "num_heads": -1,
}
"""Options of the original with one value in every release, which is the one this network has."""
_WITHOUT_EFFECT = ("use_checkpoint", "use_fp16", "use_linear")
"""Memory, precision (a network here has its weights'), and whether projections are stored as matrices or as 1x1
convolutions: `viewcrafter_unet_layout` asks."""

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
    # The misspelling is the checkpoint's. Only layers 2..4 have a dropout between SiLU and convolution.
    "temporal_conv.layers.0.norm": "temopral_conv.conv1.0",
    "temporal_conv.layers.0.conv": "temopral_conv.conv1.2",
} | {
    f"temporal_conv.layers.{i}.{ours}": f"temopral_conv.conv{i + 1}.{theirs}"
    for i in (1, 2, 3)
    for ours, theirs in (("norm", 0), ("conv", 3))
}


def viewcrafter_unet_config(config: Mapping) -> dict:
    """The keyword arguments of `VideoUNet` for the ``unet_config.params`` of a ViewCrafter configuration.

    Raises:
        InputError: An option is unknown, or has a value this network has no counterpart for.
    """
    arguments = {}
    for name, value in {**_WHERE_ABSENT, **config}.items():
        if name in _RENAMED:
            arguments[_RENAMED[name]] = tuple(value) if isinstance(value, (list, tuple)) else value
        elif name in _FIXED:
            require(value == _FIXED[name], name, f"be {_FIXED[name]}", value, "No ViewCrafter release has another.")
        elif name not in _WITHOUT_EFFECT:
            raise InputError(complaint("unet config", "hold known options", name, "Check the file's origin."))
    return arguments


def viewcrafter_modules(unet: VideoUNet) -> dict[str, nn.Module]:
    """The modules of ``unet`` under the names that ViewCrafter's network gives to modules with the same output."""
    modules: dict[str, nn.Module] = {"input_blocks.0": unet.conv_in, "middle_block": unet.middle}
    if unet.attention_in is not None:
        modules["init_attn"] = unet.attention_in
    modules |= {f"input_blocks.{i}": stage for i, stage in enumerate(unet.encoder, start=1)}
    modules |= {f"output_blocks.{i}": stage for i, stage in enumerate(unet.decoder)}
    return modules


def viewcrafter_unet_layout(unet: VideoUNet, use_linear: bool = True) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For every tensor of ViewCrafter's network: the name of ours and the shape of theirs.

    Shapes differ by trailing ones only: theirs has 1x1 and 3x1x1 convolutions where ours has matrices and 3x1.

    Args:
        unet: A network of the checkpoint's configuration; the meta device will do.
        use_linear: The option of that name of the original.
    """
    layout = {}
    for ours, theirs in _module_pairs(unet):
        module = unet.get_submodule(ours)
        for parameter_name, parameter in module.named_parameters():
            shape = tuple(parameter.shape)
            if ".temporal_conv." in ours and ours.endswith(".conv") and parameter_name == "weight":
                shape += (1,)
            if parameter_name in ("proj_in.weight", "proj_out.weight"):
                if isinstance(module, SpatialTransformer) and not use_linear:
                    shape += (1, 1)
                elif isinstance(module, TemporalTransformer) and (ours == "attention_in" or not use_linear):
                    shape += (1,)
            their_name = re.sub(r"\bto_out\.", "to_out.0.", parameter_name)
            layout[f"{theirs}.{their_name}"] = (f"{ours}.{parameter_name}", shape)
    return layout


def _module_pairs(unet: VideoUNet) -> list[tuple[str, str]]:
    """Our module's name and theirs, for modules that hold every parameter once and name them alike within."""
    pairs = [("conv_in", "input_blocks.0.0"), ("norm_out", "out.0"), ("conv_out", "out.2")]
    embeddings = [("time_embedding", "time_embed")]
    if unet.embedding.fps_embedding is not None:
        embeddings.append(("fps_embedding", "fps_embedding"))
    pairs += [(f"embedding.{o}.linear_{i + 1}", f"{t}.{2 * i}") for o, t in embeddings for i in (0, 1)]
    if unet.attention_in is not None:
        pairs.append(("attention_in", "init_attn.0"))
    stages = [("middle", "middle_block")]
    stages += [(f"encoder.{i}", f"input_blocks.{i + 1}") for i in range(len(unet.encoder))]
    stages += [(f"decoder.{i}", f"output_blocks.{i}") for i in range(len(unet.decoder))]
    for our_stage, their_stage in stages:
        # Theirs numbers the parts that are there; ours names them.
        for index, (part_name, part) in enumerate(unet.get_submodule(our_stage).named_children()):
            ours, theirs = f"{our_stage}.{part_name}", f"{their_stage}.{index}"
            if isinstance(part, ResBlock):
                present = {name for name, _ in part.named_modules()}
                pairs += [(f"{ours}.{o}", f"{theirs}.{t}") for o, t in _RESNET.items() if o in present]
            elif isinstance(part, nn.Conv2d):
                pairs.append((ours, f"{theirs}.op"))
            else:
                pairs.append((ours, theirs))
    return pairs


def check_layout(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raise `InputError` unless ``tensors`` has exactly the names and shapes of ``shapes``, all floating point."""
    missing = [name for name in shapes if name not in tensors]
    extra = [name for name in tensors if name not in shapes]
    wrong = [
        f"{name} {tuple(tensors[name].shape)} for {shape}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    whole = [f"{name} {tensor.dtype}" for name, tensor in tensors.items() if not tensor.is_floating_point()]
    faults = [
        f"{len(names)} {kind} (first: {', '.join(names[:3])})"
        for kind, names in (
            ("missing", missing),
            ("unknown", extra),
            ("of another shape", wrong),
            ("not floating point", whole),
        )
        if names
    ]
    require(
        not faults,
        what,
        f"hold the {len(shapes)} tensors of its layout",
        "; ".join(faults),
        "This is another model's file or a damaged one; nothing was written.",
    )


def convert_unet_state_dict(state_dict: Mapping[str, Tensor], unet: VideoUNet, use_linear: bool = True) -> dict:
    """ViewCrafter's tensors (names without the component's prefix) under our names: views, no copies.

    Raises:
        InputError: A tensor is missing, unknown, of another shape or not floating point.
    """
    layout = viewcrafter_unet_layout(unet, use_linear)
    check_layout(state_dict, {name: shape for name, (_, shape) in layout.items()}, "the UNet's part")
    ours = unet.state_dict()
    return {our_name: state_dict[name].reshape(ours[our_name].shape) for name, (our_name, _) in layout.items()}


def revert_unet_state_dict(state_dict: Mapping[str, Tensor], unet: VideoUNet, use_linear: bool = True) -> dict:
    """The inverse of `convert_unet_state_dict`."""
    layout = viewcrafter_unet_layout(unet, use_linear)
    return {name: state_dict[our_name].reshape(shape) for name, (our_name, shape) in layout.items()}


def load_unet_vector(config: Mapping, state_dict: Mapping[str, Tensor]) -> VideoUNet:
    """A network in evaluation mode from a ViewCrafter configuration and its tensors.

    ``config`` is the original's ``unet_config.params``, bare or under ``config`` or ``unet``.
    """
    config = config.get("config", config.get("unet", config))
    with torch.device("meta"):
        unet = VideoUNet(**viewcrafter_unet_config(config))
    converted = convert_unet_state_dict(state_dict, unet, config.get("use_linear", False))
    unet.load_state_dict(converted, assign=True)
    return unet.eval()
