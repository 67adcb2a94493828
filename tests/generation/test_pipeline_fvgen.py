"""One window of frames through tiny random networks: what goes in and out, not how good it looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from one_window import FRAMES, inputs, student, teacher
from same_weights import OTHER_MEMORY, assert_same_weights

from fvgen.generation.fit_size import SizeFit
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.geometry.cameras import project


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


def test_numbers_may_be_numpy_ones(few):
    given = inputs() | {"fps": np.float32(7.5), "num_inference_steps": np.int64(2), "guidance_scale": np.float32(1)}
    steps = []
    few(**given, callback_on_step_end=lambda pipe, step, t, x: steps.append(t))
    assert len(steps) == 2


def test_a_teacher_without_towers_is_not_guided_by_default():
    parts = {name: part for name, part in student().components.items()}
    out = FVGenPipeline(**parts, sampler="ddim")(**inputs(), num_inference_steps=2)
    assert torch.isfinite(out.frames).all()
