"""Sampling that starts from pictures: how far they are mixed with noise, and what a pipeline makes of them."""

from __future__ import annotations

import pytest
import torch
from tiny_pipelines import tiny_pipeline

from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.generation.restart import Restart, low_levels
from fvgen.types import Cameras

SCHEDULE = NoiseSchedule()


def mixed(opacity: float, timestep: int = 249) -> torch.Tensor:
    """Latents of pictures of unit variance, which the codec takes as they are."""
    g = torch.Generator().manual_seed(0)
    pictures = Restart(torch.randn(2, 3, 64, 64, generator=g), torch.full((2, 1, 64, 64), opacity))
    return pictures.latents(lambda x: x, SCHEDULE, timestep, lambda x: torch.randn(x.shape, generator=g))


@pytest.mark.parametrize("opacity", [0.0, 0.5, 1.0])
def test_opacity_says_how_much_of_a_picture_is_in_the_latents(opacity):
    g = torch.Generator().manual_seed(0)
    picture = torch.randn(2, 3, 64, 64, generator=g)
    found = mixed(opacity)[0]
    kept = float(SCHEDULE.add_noise(torch.ones(1), torch.zeros(1), 249)) * SCHEDULE.scale(249, picture)
    assert float((found * picture).mean()) == pytest.approx(opacity * float(kept), abs=0.03)
    assert float(found.var()) == pytest.approx(float(mixed(1.0).var()), rel=0.05)


def test_only_the_low_levels_of_noise_are_run():
    assert low_levels([999, 749, 499, 249]) == [249]
    assert low_levels(list(range(980, -1, -20)))[0] == 220
    assert low_levels([999]) == [999]


def test_known_frames_stand_in_the_pictures():
    start = Restart(torch.zeros(3, 3, 4, 4), torch.zeros(3, 1, 4, 4))
    found = start.with_known(torch.ones(3, 3, 4, 4), torch.tensor([True, False, True]))
    assert found.rgb.mean(dim=(1, 2, 3)).tolist() == found.opacity.mean(dim=(1, 2, 3)).tolist() == [1, 0, 1]


def test_a_pipeline_runs_its_last_step_from_a_picture():
    pipeline = tiny_pipeline("student")
    frames = int(pipeline.config.frames)
    renders, steps = torch.rand(1, frames, 3, 32, 32), []
    cameras = Cameras(torch.eye(4).repeat(frames, 1, 1), torch.eye(3).repeat(frames, 1, 1), 32, 32)

    def draw(picture: float) -> torch.Tensor:
        restart = Restart(torch.full((frames, 3, 32, 32), picture), torch.ones(frames, 1, 32, 32))
        note = lambda done, total, what: steps.append((done, total))  # noqa: E731
        return pipeline(renders, renders[:, [0, -1]], cameras, restart=restart, progress=note).frames

    dark, bright = draw(0.2), draw(0.8)
    assert steps == [(1, 1), (1, 1)]
    assert torch.equal(draw(0.2), dark) and not torch.equal(dark, bright)
