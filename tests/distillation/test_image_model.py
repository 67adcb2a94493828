"""An image model that cannot score a teacher's frames is refused by its settings alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from tiny_networks import frame_teacher, teacher

from fvgen.checks import InputError
from fvgen.distillation.image_model import check_image_model, load_image_model
from fvgen.distillation.objectives.frame_matching import FrameMatching


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """An image pipeline as Stable Diffusion's, and a video teacher of the same latents."""
    image, video = tmp_path / "image", tmp_path / "video"
    frame_teacher().save_pretrained(image / "unet")
    DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).save_pretrained(
        image / "scheduler"
    )
    teacher().save_pretrained(video / "unet")
    return image, video


def change(folder: Path, name: str, **settings: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def test_one_that_fits_is_loaded(folders):
    image, video = folders
    check_image_model(image, FrameMatching(), video)
    network, schedule = load_image_model(image)
    assert type(network).__name__ == "UNet2DConditionModel"
    signal = DDIMScheduler.from_pretrained(image / "scheduler").alphas_cumprod
    torch.testing.assert_close(schedule.alphas_cumprod, signal, rtol=1e-5, atol=1e-7)  # float32 cumulative products


def test_one_that_is_told_nothing_is_loaded(folders):
    image, video = folders
    frame_teacher(conditional=False).save_pretrained(image / "unet")
    check_image_model(image, FrameMatching(text_tokens=0), video)
    assert type(load_image_model(image)[0]).__name__ == "UNet2DModel"
    with pytest.raises(InputError, match=r"text_tokens must be 0 for a UNet2DModel, got 77. Give .*text-tokens 0"):
        check_image_model(image, FrameMatching(), video)


SCHEDULER, NETWORK = "scheduler/scheduler_config.json", "unet/config.json"
BAD = [
    (SCHEDULER, {"prediction_type": "v_prediction"},
     "frame_teacher must predict epsilon, got v. Give --objective.matching.prediction v."),
    (SCHEDULER, {"prediction_type": "flow"}, "frame_teacher must predict epsilon, got unknown. Use one of"),
    (SCHEDULER, {"beta_schedule": "linear"}, "frame_teacher must have scaled_linear betas, got linear."),
    (NETWORK, {"in_channels": 9}, r"frame_teacher must take and give 3 channels, got \(9, 3\)"),
    (NETWORK, {"cross_attention_dim": 99}, "attend to tokens of the teacher's width 8, got 99"),
    (NETWORK, {"addition_embed_type": "text_time"}, r"noise level and tokens alone, got \['addition_embed_type'\]"),
    (NETWORK, {"_class_name": "FluxTransformer2DModel"}, "must have one of .* got FluxTransformer2DModel"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "settings", "words"), BAD)
def test_one_that_does_not_fit_is_refused(folders, file, settings, words):
    image, video = folders
    change(image, file, **settings)
    with pytest.raises(InputError, match=words):
        check_image_model(image, FrameMatching(), video)


def test_a_folder_without_a_scheduler_is_refused(folders):
    image, video = folders
    (image / SCHEDULER).unlink()
    with pytest.raises(InputError, match=f"frame_teacher must hold {SCHEDULER}, got"):
        check_image_model(image, FrameMatching(), video)
