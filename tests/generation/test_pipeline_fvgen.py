"""One window of frames through tiny random networks: what goes in and out, not how good it looks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from same_weights import OTHER_MEMORY, assert_same_weights
from tiny_pipelines import tiny_towers, tiny_vae

from fvgen.checks import InputError
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.fit_size import SizeFit
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.geometry.cameras import project
from fvgen.models.codec import SpaceToDepth
from fvgen.models.unet_3d import VideoUNet
from fvgen.types import Cameras

FRAMES = 3


def tiny_unet(latent_channels=4, context_dim=16, text_length=77, **options):
    torch.manual_seed(0)
    unet = VideoUNet(
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        model_channels=16,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(2,),
        num_head_channels=8,
        context_dim=context_dim,
        text_context_length=text_length,
        image_tokens_per_frame=2,
        temporal_length=FRAMES,
        sample_frames=FRAMES,
        initial_attention_heads=2,
        norm_num_groups=8,
        **options,
    ).eval()
    for parameter in unet.parameters():  # zero-initialised outputs would hide every difference
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim > 1 else None
    return unet


def seeded_vae():
    torch.manual_seed(1)
    return tiny_vae()


def clip_towers():
    torch.manual_seed(2)
    return tiny_towers(FRAMES)


def teacher():
    return FVGenPipeline(unet=tiny_unet(), vae=seeded_vae(), schedule=NoiseSchedule(base_scale=0.7), **clip_towers())


def student():
    """No towers, lossless codec: the smallest preset's layout."""
    unet = tiny_unet(latent_channels=12, text_length=1)
    return FVGenPipeline(unet=unet, vae=SpaceToDepth(2), schedule=NoiseSchedule(), sampler="few_step")


def inputs(height=16, width=24, batch=1, frames=FRAMES):
    generator = torch.Generator().manual_seed(3)
    renders = torch.rand(batch, frames, 3, height, width, generator=generator)
    c2w = torch.eye(4).repeat(frames, 1, 1)
    c2w[:, 0, 3] = torch.linspace(0, 1, frames)
    K = torch.tensor([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]]).repeat(frames, 1, 1)
    cameras = [Cameras(c2w, K, height, width) for _ in range(batch)]
    return {"renders": renders, "photos": renders[:, [0, -1]] * 0.5, "cameras": cameras}


@pytest.fixture(scope="module")
def few():
    return student()


@pytest.fixture(scope="module")
def full():
    return teacher()


def test_student_takes_four_steps_and_returns_pixels(few):
    seen = []
    out = few(**inputs(), callback_on_step_end=lambda pipe, step, t, x: seen.append((step, t, x["latents"].shape)))
    assert [t for _, t, _ in seen] == [999, 749, 499, 249]
    assert out.frames.shape == (1, FRAMES, 3, 16, 24)
    assert out.frames.min() >= 0 and out.frames.max() <= 1 and out.frames.std() > 0.01


def test_teacher_guides_and_counts_its_calls(full, monkeypatch):
    calls = []
    forward = full.unet.forward
    monkeypatch.setattr(full.unet, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    guided = full(**inputs(), num_inference_steps=3)
    assert len(calls) == 6
    plain = full(**inputs(), num_inference_steps=3, guidance_scale=1)
    assert len(calls) == 9
    assert (guided.frames - plain.frames).abs().max() > 1e-3


@pytest.mark.parametrize("build", [student, teacher])
def test_networks_prepared_for_a_gpu_draw_the_same(build):
    pipeline = build()
    expected = pipeline(**inputs(), num_inference_steps=2).frames
    pipeline.prepare_for_gpu()
    assert pipeline.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(pipeline(**inputs(), num_inference_steps=2).frames, expected, atol=1e-4, rtol=0)


def test_callback_can_replace_latents(few):
    zero = few(**inputs(), callback_on_step_end=lambda p, i, t, x: {"latents": torch.zeros_like(x["latents"])})
    torch.testing.assert_close(zero.frames, torch.full_like(zero.frames, 0.5))


def test_a_clip_does_not_depend_on_its_batch(full):
    two = inputs(batch=2)
    both = full(**two, num_inference_steps=2, seed=5, clips=[7, 8])
    second = {name: value[1:] for name, value in two.items()}
    alone = full(**second, num_inference_steps=2, seed=5, clips=[8])
    # float32 sums may be ordered otherwise for another batch size
    torch.testing.assert_close(both.frames[1:], alone.frames, atol=1e-4, rtol=0)
    other = full(**second, num_inference_steps=2, seed=5, clips=[7])
    assert (other.frames - alone.frames).abs().max() > 1e-3


def test_same_seed_same_frames_other_seed_other_frames(few):
    first, again, other = (few(**inputs(), seed=seed).frames for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_any_frame_count_without_image_tokens(few, frames):
    photos = (0,) if frames == 1 else (0, -1)
    given = inputs(frames=frames)
    given["photos"] = given["photos"][:, : len(photos)]
    out = few(**given, photo_frames=photos, num_inference_steps=1)
    assert out.frames.shape[1] == frames


@pytest.mark.parametrize("fit", ["pad", "crop"])
@pytest.mark.parametrize("size", [(17, 23), (30, 18), (16, 24)])
def test_returned_cameras_belong_to_returned_pixels(few, size, fit):
    """A bright pixel marks where a 3D point projects; it must still be there by the returned cameras."""
    given = inputs(*size)
    point = torch.tensor([[0.2, -0.1, 4.0]])
    uv, _ = project(point, given["cameras"][0])
    marked = torch.zeros(1, FRAMES, 3, *size)
    for frame, (u, v) in enumerate(uv[:, 0]):
        marked[0, frame, :, int(v), int(u)] = 1
    plan = SizeFit.plan(*size, few.multiple, fit)

    def as_if_generated(pipeline, step, timestep, tensors):
        return {"latents": pipeline.codec.encode(plan.apply(marked))}

    out = few(**given, fit=fit, callback_on_step_end=as_if_generated)
    camera, pixels = out.cameras[0], out.frames.round()
    assert (camera.height, camera.width) == tuple(out.frames.shape[-2:])
    for frame, (u, v) in enumerate(project(point, camera)[0][:, 0]):
        assert pixels[0, frame, 0, int(v), int(u)] == 1


def test_padding_leaves_the_picture_where_it_was():
    """A decode of what was encoded, through padding and back, is the picture itself."""
    plan = SizeFit.plan(17, 23, 8, "pad")
    images = torch.rand(2, 3, 3, 17, 23)
    assert plan.apply(images).shape[-2:] == (24, 24)
    assert torch.equal(plan.restore(plan.apply(images)), images)


@pytest.mark.parametrize("build", [teacher, student])
def test_folder_round_trip(build, tmp_path):
    pipeline = build()
    pipeline.save_pretrained(tmp_path)
    loaded = FVGenPipeline.from_pretrained(tmp_path)
    assert loaded.config.sampler == pipeline.config.sampler
    assert loaded.schedule.config.base_scale == pipeline.schedule.config.base_scale
    assert loaded.components.keys() == pipeline.components.keys()
    for name, part in pipeline.components.items():
        if part is not None:
            assert_same_weights(loaded.components[name], part)
    first, second = (p(**inputs(), num_inference_steps=2).frames for p in (pipeline, loaded))
    torch.testing.assert_close(first, second, **OTHER_MEMORY)


def test_half_precision_keeps_the_schedule_exact(tmp_path):
    pipeline = student().to(torch.bfloat16)
    assert pipeline.unet.dtype == torch.bfloat16
    assert pipeline.schedule.alphas_cumprod.dtype == torch.float32
    out = pipeline(**inputs())
    assert out.frames.dtype == torch.float32 and torch.isfinite(out.frames).all()


def test_tiny_autoencoder_stands_in(full):
    torch.manual_seed(4)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    parts = {name: part for name, part in full.components.items() if name != "vae"}
    out = FVGenPipeline(vae=tiny, **parts)(**inputs(), num_inference_steps=1)
    assert out.frames.shape == (1, FRAMES, 3, 16, 24)


def test_texts_are_encoded_once(full, monkeypatch):
    full._tokens = None
    calls = []
    forward = full.text_encoder.forward
    monkeypatch.setattr(full.text_encoder, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    for _ in range(2):
        full(**inputs(), num_inference_steps=1)
    assert len(calls) == 2  # the prompt and the empty text


def test_low_memory_gives_the_same_frames(full):
    usual = full(**inputs(), num_inference_steps=1).frames
    full.enable_low_memory()
    try:
        torch.testing.assert_close(full(**inputs(), num_inference_steps=1).frames, usual, atol=5e-5, rtol=0)
    finally:
        full.codec_chunk = 4


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


def test_numbers_may_be_numpy_ones(few):
    given = inputs() | {"fps": np.float32(7.5), "num_inference_steps": np.int64(2), "guidance_scale": np.float32(1)}
    steps = []
    few(**given, callback_on_step_end=lambda pipe, step, t, x: steps.append(t))
    assert len(steps) == 2


def test_eta_of_a_teacher_is_checked(full):
    with pytest.raises(InputError, match="eta must lie in"):
        full(**inputs(), eta=2.0)


def test_a_teacher_without_towers_is_not_guided_by_default():
    parts = {name: part for name, part in student().components.items()}
    out = FVGenPipeline(**parts, sampler="ddim")(**inputs(), num_inference_steps=2)
    assert torch.isfinite(out.frames).all()


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
