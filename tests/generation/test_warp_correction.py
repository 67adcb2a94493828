"""Networks that correct warps, from the pipeline to whole clips."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_pipelines import tiny_pipeline

from fvgen.checks import InputError
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.generation.pipeline_fvgen import FVGenPipeline
from fvgen.generation.warp import WarpCorrection, WarpViews
from fvgen.geometry.trajectory import PATH_STYLES

FRAMES = 4


@pytest.fixture(scope="module")
def corrector(tmp_path_factory):
    """Saves the tiny pipeline that corrects warps, its output times ``gain``; returns its generator."""

    def save(gain: float, **settings) -> DiffusionViews:
        pipeline = tiny_pipeline("corrector")
        for parameter in pipeline.unet.conv_out.parameters():
            parameter.data *= gain
        folder = tmp_path_factory.mktemp("corrector")
        pipeline.save_pretrained(folder)
        return DiffusionViews("student", folder, **settings)

    return save


@pytest.fixture
def first_clip(plane):
    capture, _ = plane
    return PATH_STYLES["between"](capture.cameras, FRAMES).part(torch.arange(FRAMES))


@pytest.mark.parametrize("size", ["working", "trained"])
def test_no_residual_is_the_warp(plane, first_clip, corrector, size, monkeypatch):
    """Whatever the size of the network's clips, a correction of zero gives the full-size warp."""
    capture, geometry = plane
    generator = corrector(1.0, size=size)
    monkeypatch.setattr(
        FVGenPipeline,
        "sample",
        lambda self, conditions, *_: torch.zeros_like(conditions.render_latents[:, :, : self.codec.latent_channels]),
    )
    views = generator.generate(capture, geometry, first_clip)
    warp = WarpViews().generate(capture, geometry, first_clip)
    torch.testing.assert_close(views.rgb, warp.rgb, atol=2e-6, rtol=0)


def test_photos_pass_untouched_and_frames_are_corrected(plane, first_clip, corrector):
    capture, geometry = plane
    views = corrector(1.0).generate(capture, geometry, first_clip)
    warp = WarpViews().generate(capture, geometry, first_clip)
    assert torch.equal(views.rgb[0], capture.photos[0]) and torch.equal(views.rgb[-1], capture.photos[1])
    drawn = views.rgb[1:-1]
    assert ((drawn >= 0) & (drawn <= 1)).all()
    assert 1e-4 < (drawn - warp.rgb[1:-1]).abs().mean() < 0.2


def test_frames_of_an_earlier_window_are_keys_of_the_next(plane, first_clip, corrector):
    capture, geometry = plane
    correction = WarpCorrection.of(
        capture, geometry, first_clip, torch.rand(FRAMES - 2, 3, *capture.photos.shape[2:]), 24, 32
    )
    frames, known = torch.rand(FRAMES, 3, 24, 32), torch.tensor([True, True, False, True])
    given = correction.window(frames, known, torch.tensor([1, 2, 3]))
    assert given.photo.tolist() == [[True, False, True]]
    assert torch.equal(given.warp[0, 0], frames[1]) and torch.equal(given.render[0, 0], frames[1])
    assert torch.equal(given.warp[0, 1], correction.small.warp[0, 2])
    assert given.covered[0, 0].all() and (given.confidence[0, 0] == 1).all()


def test_warps_are_required_and_checked(plane, first_clip):
    capture, geometry = plane
    size = capture.photos.shape[2:]
    warps = WarpCorrection.of(capture, geometry, first_clip, torch.rand(FRAMES - 2, 3, *size), *size).small
    call = partial(
        tiny_pipeline("corrector"), warps.render, capture.photos[None, :2], first_clip.cameras, num_inference_steps=1
    )
    assert call(warps=warps).frames.shape == warps.render.shape
    with pytest.raises(InputError, match="warps must be given to a network that corrects warps"):
        call()
    with pytest.raises(InputError, match=r"warps.confidence must be finite"):
        call(warps=replace(warps, confidence=warps.confidence * float("nan")))
    student = partial(tiny_pipeline("student"), warps.render, capture.photos[None, :2], first_clip.cameras)
    with pytest.raises(InputError, match="to no other"):
        student(warps=warps)


def test_residual_networks_need_the_lossless_codec():
    teacher, corrector = tiny_pipeline("teacher"), tiny_pipeline("corrector")
    with pytest.raises(InputError, match="vae must be SpaceToDepth"):
        FVGenPipeline(teacher.unet, teacher.vae, teacher.schedule, residual=corrector.config.residual)


def test_settings_survive_saving(tmp_path):
    pipeline = tiny_pipeline("corrector")
    pipeline.save_pretrained(tmp_path)
    assert FVGenPipeline.from_pretrained(tmp_path).residual == pipeline.residual
