"""Whether clips are what a teacher was trained on: its codec, its channels, its size."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvgen.checks import require
from fvgen.clip import TrainBatch
from fvgen.models.codec import SpaceToDepth, codec_name, latent_fingerprint, load_codec
from fvgen.models.folder import component_classes, read_settings

_PREPARE = "Prepare the clips with this teacher: fvgen clips SOURCE --encoding latents --model TEACHER."


def check_clips(meta: Mapping[str, Any], clip: TrainBatch, teacher: Path, other_size: bool = False) -> None:
    """Refuse clips that a teacher's networks do not understand; of its weights only the codec's are read.

    Args:
        meta: of the data set: ``codec``, ``residual``.
        clip: any of its clips.
        teacher: pipeline folder.
        other_size: allow another height, width or number of frames than the teacher was trained on.

    Raises:
        InputError: another codec, other channels, tokens or size.
    """
    check_codec(meta, teacher)
    unet = read_settings(teacher, "unet/config.json")
    z, known = clip.latents, clip.conditions
    found = {"latents": z.shape[2], "latents and condition": z.shape[2] + known.render_latents.shape[2]}
    wanted = {"latents": unet["out_channels"], "latents and condition": unet["in_channels"]}
    require(found == wanted, "the clips", f"have the teacher's channels {wanted}", found, _PREPARE)
    width, text = known.tokens.shape[2], known.tokens.shape[1]
    require(width == unet["context_dim"], "tokens", f"be {unet['context_dim']} wide", width, _PREPARE)
    require(
        text >= unet["text_context_length"],
        "tokens",
        f"be at least {unet['text_context_length']}",
        text,
        _PREPARE,
    )
    multiple = 2 ** (len(unet["channel_mult"]) - 1)
    frames, (rows, columns) = z.shape[1], z.shape[3:]
    require(
        rows % multiple == 0 and columns % multiple == 0,
        "the clips' latents",
        f"have height and width divisible by {multiple}",
        (rows, columns),
        "Prepare clips of another size, or cut them with --crop.",
    )
    size, most = tuple(unet["sample_size"]), unet["sample_frames"]
    # Image tokens are laid out by frames: with another number, frames get other ones than the teacher was trained with.
    exact = "image_projector" in component_classes(read_settings(teacher))
    count = f"exactly {most} frames, as its image tokens are laid out" if exact else f"at most {most} frames"
    require(
        other_size or ((rows, columns) in (size, size[::-1]) and (frames == most if exact else frames <= most)),
        "the clips' latents",
        f"be of the teacher's size {size[0]}x{size[1]} (or turned) with {count}",
        f"{rows}x{columns} with {frames} frames",
        "Prepare clips of its size, or add --other-size to train the student at this one.",
    )


def check_guidance(settings: Mapping[str, Any], clip: TrainBatch, option: str = "--objective") -> None:
    """Refuse a recipe whose teacher is guided where the clips have nothing to guide away from.

    Args:
        settings: the recipe's, nested.
        clip: any of the data set's clips.
        option: that the settings are given by.

    Raises:
        InputError: a guidance scale other than 1 without unconditional tokens.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            check_guidance(value, clip, f"{option}.{name}")
        require(
            name != "guidance_scale" or value == 1 or clip.conditions.unconditional_tokens is not None,
            "guidance_scale",
            "be 1 for clips without unconditional tokens",
            value,
            f"Give {option}.guidance-scale 1, or prepare clips with a teacher that has towers.",
        )


def check_codec(meta: Mapping[str, Any], teacher: Path) -> None:
    """Refuse clips of another codec than the one in a pipeline folder.

    Raises:
        InputError: another kind of codec, other settings or weights, or another residual space.
    """
    index = read_settings(teacher)
    vae = read_settings(teacher, "vae/config.json")
    _, own = component_classes(index).get("vae", ("", "none"))
    codec = meta["codec"]
    pixels = codec["name"] == "space-to-depth"
    kind = "SpaceToDepthCodec" if pixels else codec["kind"]
    wanted = codec_name(own)
    require(kind == wanted, "the clips' codec", f"be the teacher's {wanted or own}", kind, _PREPARE)
    for setting in ("patch_size", "scaling_factor"):
        if setting in codec:
            wanted, given = vae.get(setting), codec[setting]
            require(given == wanted, "the clips' codec", f"have the teacher's {setting} {wanted}", given, _PREPARE)
    # Pixels are encoded on reading, by a codec whose statistics are the defaults.
    given = latent_fingerprint(SpaceToDepth(codec["patch_size"])) if pixels else codec.get("fingerprint")
    if given is None:
        text = (
            f"The clips do not record whose weights encoded them (codec {codec['name']}): check that {teacher}'s did."
        )
        warnings.warn(text, stacklevel=2)
    else:
        wanted = latent_fingerprint(load_codec(teacher).vae)
        require(given == wanted, "the clips' codec", f"have the teacher's weights ({wanted})", given, _PREPARE)
    residual, given = index.get("residual"), meta.get("residual")
    require(residual == given, "the clips' residual", f"be the teacher's {residual}", given, _PREPARE)
