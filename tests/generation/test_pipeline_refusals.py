"""What a pipeline refuses to be made of, and to be called with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from one_window import clip_towers, inputs, seeded_vae, student, teacher, tiny_unet

from fvgen.checks import InputError
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.pipeline_fvgen import FVGenPipeline


@pytest.fixture(scope="module")
def few():
    return student()


def with_nan(given):
    given["renders"][0, 1, 0, 2, 3] = torch.nan


def without_a_camera(given):
    given["cameras"] = [given["cameras"][0][:2]]


def with_camera(name, place, value):
    def change(given):
        camera = given["cameras"][0]
        tensor = getattr(camera, name).clone()
        tensor[place] = value
        given["cameras"] = [replace(camera, **{name: tensor})]

    return change


BAD = {
    "renders must have shape": lambda g: g.update(renders=g["renders"][:, :, :1]),
    "renders must be finite": with_nan,
    r"renders must lie in \[0, 1\]": lambda g: g.update(renders=g["renders"] * 255),
    "cameras must be 3 per clip": without_a_camera,
    "cameras must hold 1 clips": lambda g: g.update(cameras=[]),
    "photos must have shape": lambda g: g.update(photos=g["photos"][:, :1]),
    "photo_frames must name different": lambda g: g.update(photo_frames=(0, 0)),
    "timestep must lie in 0 .. 999": lambda g: g.update(timesteps=[1000, 500]),
    "timesteps must run from noise": lambda g: g.update(timesteps=[249, 999]),
    "num_steps must lie in": lambda g: g.update(num_inference_steps=2000),
    "eta must be left out": lambda g: g.update(eta=0.5),
    "guidance_rescale must lie": lambda g: g.update(guidance_rescale=2.0),
    "photos must be finite": lambda g: g.update(photos=g["photos"] / 0),
    "clips must number": lambda g: g.update(clips=[0, 1]),
    "fit must be pad or crop": lambda g: g.update(fit="stretch"),
    "guidance_scale must be 1": lambda g: g.update(guidance_scale=7.5),
    "guidance_scale must be a finite number, got nan": lambda g: g.update(guidance_scale=math.nan),
    "guidance_scale must be a finite number, got '7.5'": lambda g: g.update(guidance_scale="7.5"),
    "guidance_rescale must be a finite number": lambda g: g.update(guidance_rescale=math.inf),
    "eta must be a finite number": lambda g: g.update(eta=math.nan),
    "fps must be a positive number, got 0": lambda g: g.update(fps=0),
    "fps must be a positive number, got inf": lambda g: g.update(fps=math.inf),
    "fps must be a positive number, got None": lambda g: g.update(fps=None),
    "num_inference_steps must be a whole number, 1 or more, got 0": lambda g: g.update(num_inference_steps=0),
    "num_inference_steps must be a whole number, 1 or more, got 2.5": lambda g: g.update(num_inference_steps=2.5),
    "num_inference_steps must be a whole number, 1 or more, got True": lambda g: g.update(num_inference_steps=True),
    r"timesteps must be whole numbers, got \[249.5\]": lambda g: g.update(timesteps=[999, 249.5]),
    "renders must be a torch tensor, got ndarray": lambda g: g.update(renders=g["renders"].numpy()),
    "photos must be a torch tensor, got list": lambda g: g.update(photos=list(g["photos"])),
    "cameras must be Cameras, got Tensor": lambda g: g.update(cameras=[g["cameras"][0].c2w]),
    "cameras must be finite": with_camera("c2w", (1, 0, 3), math.nan),
    "cameras must have positive focal lengths, got 0": with_camera("K", (2, 1, 1), 0),
    "cameras must have positive focal lengths, got -20": with_camera("K", (0, 0, 0), -20),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_in_words(few, message, monkeypatch):
    given = inputs()
    BAD[message](given)
    monkeypatch.setattr(few.unet, "forward", lambda *a, **k: pytest.fail("work had started"))
    with pytest.raises(InputError, match=message):
        few(**given)


def test_eta_of_a_teacher_is_checked():
    with pytest.raises(InputError, match="eta must lie in"):
        teacher()(**inputs(), eta=2.0)


def test_a_codec_of_another_model_is_refused(few):
    parts = {name: part for name, part in few.components.items() if name != "vae"}
    with pytest.raises(InputError, match="unet must have"):
        FVGenPipeline(vae=seeded_vae(), **parts)(**inputs())


def test_towers_of_another_width_are_refused():
    with pytest.raises(InputError, match="image_projector's output must have width 8"):
        FVGenPipeline(unet=tiny_unet(context_dim=8), vae=seeded_vae(), schedule=NoiseSchedule(), **clip_towers())(
            **inputs()
        )


def test_an_unknown_sampler_is_refused():
    with pytest.raises(InputError, match="sampler must be one of"):
        FVGenPipeline(unet=tiny_unet(), vae=seeded_vae(), schedule=NoiseSchedule(), sampler="euler")
