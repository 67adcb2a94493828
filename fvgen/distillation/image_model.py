"""The image diffusion model that AVDM2 matches frames with: whether it fits the clips, and its networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel, UNet2DModel

from fvgen.checks import require
from fvgen.diffusion.prediction import OutputKind
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.distillation.objectives.frame_matching import FrameMatching
from fvgen.models.folder import load_component, read_settings

_SCHEDULER = "scheduler/scheduler_config.json"
_NETWORK = "unet/config.json"
_NETWORKS: Mapping[str, Any] = {kind.__name__: kind for kind in (UNet2DConditionModel, UNet2DModel)}
_PREDICTIONS: Mapping[str, OutputKind] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
"""Names of diffusers' schedulers -> ours."""
_MORE_CONDITIONS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
_ANOTHER = "Use one of Stable Diffusion's kind that shares the teacher's latents."


def check_image_model(folder: Path, matching: FrameMatching, teacher: Path) -> None:
    """Refuse an image model that cannot score the teacher's frames as a recipe asks; no weights are read.

    Args:
        folder: diffusers pipeline folder such as Stable Diffusion's.
        matching: of the recipe.
        teacher: pipeline folder of the video teacher, whose latents and tokens the clips have.

    Raises:
        InputError: another noise schedule or prediction, other channels or tokens, or further conditions.
    """
    noise = _read(folder, _SCHEDULER)
    betas = noise.get("beta_schedule")
    require(betas == "scaled_linear", "frame_teacher", "have scaled_linear betas", betas, _ANOTHER)
    predicted = _PREDICTIONS.get(noise.get("prediction_type", "epsilon"), "unknown")
    require(
        predicted == matching.prediction,
        "frame_teacher",
        f"predict {matching.prediction}",
        predicted,
        f"Give --objective.matching.prediction {predicted}." if predicted != "unknown" else _ANOTHER,
    )
    network, video = _read(folder, _NETWORK), read_settings(teacher, _NETWORK)
    kind = network.get("_class_name")
    require(kind in _NETWORKS, "frame_teacher", f"have one of {sorted(_NETWORKS)}", kind, _ANOTHER)
    channels, found = video["out_channels"], (network["in_channels"], network["out_channels"])
    require(found == (channels, channels), "frame_teacher", f"take and give {channels} channels", found, _ANOTHER)
    more = [name for name in _MORE_CONDITIONS if network.get(name) is not None]
    require(not more, "frame_teacher", "depend on the noise level and tokens alone", more, _ANOTHER)
    conditional, width = matching.text_tokens > 0, network.get("cross_attention_dim")
    require(
        conditional == (kind == "UNet2DConditionModel"),
        "text_tokens",
        f"be {'0' if conditional else 'more than 0'} for a {kind}",
        matching.text_tokens,
        f"Give --objective.matching.text-tokens {0 if conditional else 77}.",
    )
    require(
        not conditional or width == video["context_dim"],
        "frame_teacher",
        f"attend to tokens of the teacher's width {video['context_dim']}",
        width,
        _ANOTHER,
    )


def load_image_model(folder: Path) -> tuple[Any, NoiseSchedule]:
    """The 2D network and the noise schedule of a folder that `check_image_model` has passed."""
    noise = _read(folder, _SCHEDULER)
    known = ("num_train_timesteps", "beta_start", "beta_end")
    schedule = NoiseSchedule(
        **{name: noise[name] for name in known}, rescale_to_zero_snr=noise.get("rescale_betas_zero_snr", False)
    )
    kind = _NETWORKS[_read(folder, _NETWORK)["_class_name"]]
    return load_component(kind, folder / "unet"), schedule


def _read(folder: Path, name: str) -> dict[str, Any]:
    require((folder / name).is_file(), "frame_teacher", f"hold {name}", folder, "Name an image pipeline.")
    return read_settings(folder, name)
