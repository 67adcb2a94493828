"""Nerfstudio's options that a splat by this plugin has no use for: refused, where ignoring them would mislead.

Options of the log's looks (``--logging.local-writer``) change no result: commands that set them go on to work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from fvgen.checks import require
from fvgen_ns.fvgen_dataparser import FVGenDataParserConfig

_ONE_PROCESS = "The number of Gaussians changes while they train: one process does that."
_ALL_HELD_OUT = "All held-out photos are evaluated."
_CAMERA_ORDER = "Each photo is seen once an epoch, in an order that the seed decides."
_RAYS = "It is about rays, and a splat has none."

UNUSED: Mapping[str, str] = {
    "prompt": "A splat takes no text.",
    "machine.num_devices": _ONE_PROCESS,
    "machine.num_machines": _ONE_PROCESS,
    "pipeline.datamanager.camera_res_scale_factor": "Use --pipeline.datamanager.image-size.",
    "pipeline.datamanager.masks_on_gpu": "Use --pipeline.datamanager.cache-images gpu.",
    "pipeline.datamanager.images_on_gpu": "Use --pipeline.datamanager.cache-images gpu.",
    "pipeline.datamanager.eval_num_images_to_sample_from": _ALL_HELD_OUT,
    "pipeline.datamanager.eval_num_times_to_repeat_images": _ALL_HELD_OUT,
    "pipeline.datamanager.eval_image_indices": _ALL_HELD_OUT,
    "pipeline.datamanager.max_thread_workers": "Photos are read one after another, each once.",
    "pipeline.datamanager.train_cameras_sampling_strategy": _CAMERA_ORDER,
    "pipeline.datamanager.fps_reset_every": _CAMERA_ORDER,
    "pipeline.model.enable_collider": _RAYS,
    "pipeline.model.collider_params": _RAYS,
    "pipeline.model.eval_num_rays_per_chunk": _RAYS,
    "pipeline.model.loss_coefficients": "The weights of the loss are --pipeline.model.ssim-lambda and the penalties.",
    "pipeline.model.prompt": "A splat takes no text.",
    "pipeline.model.n_split_samples": "A Gaussian is split in two.",
    "pipeline.model.rasterize_mode": "Viewers draw splats in the classic way.",
    "pipeline.model.use_bilateral_grid": "Use --pipeline.model.photo-colour affine where exposure drifts.",
    "pipeline.model.grid_shape": "Use --pipeline.model.photo-colour affine where exposure drifts.",
    "pipeline.model.color_corrected_metrics": "The metric psnr_affine is always measured after a colour fit.",
}
"""Option, as an attribute of the trainer's config -> what to do without it."""


def refuse_unused(config: Any) -> None:
    """Refuse options of ``config``, a trainer's, that are set to something and would be ignored.

    Raises:
        InputError: naming the option.
    """
    unused = dict(UNUSED)
    if isinstance(config.pipeline.datamanager.dataparser, FVGenDataParserConfig):
        unused["pipeline.datamanager.dataparser.downscale_factor"] = "Use --pipeline.datamanager.image-size."
    for option, next_step in unused.items():
        *groups, name = option.split(".")
        owner = config
        for group in groups:
            owner = getattr(owner, group)
        value, default = getattr(owner, name), _default(owner, name)
        flag = "--" + option.replace("_", "-")
        require(value == default, flag, f"stay {default}, because it has no effect here", value, next_step)


def _default(owner: Any, name: str) -> Any:
    """What a config's field is where nobody sets it."""
    (field,) = (field for field in fields(owner) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()
