"""The schedule's algebra, its tables and its DDIM step."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from fvgen.checks import InputError
from fvgen.diffusion.schedule import CHECKPOINT_BUFFERS, NoiseSchedule

SCHEDULE = NoiseSchedule(base_scale=0.3)
timesteps = st.integers(0, 999)
seeds = st.integers(0, 2**31)


def pair(seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 3, 4, generator=generator) for _ in range(2))


@settings(deadline=None)
@given(t=timesteps, seed=seeds)
def test_v_is_a_rotation_of_x0_and_noise(t, seed):
    """(x_t, v) is (x0, eps) turned by an angle, so turning back recovers both; float32 rounding only."""
    x0, eps = pair(seed)
    x_t, v = SCHEDULE.add_noise(x0, eps, t), SCHEDULE.to_v(x0, eps, t)
    torch.testing.assert_close(SCHEDULE.to_x0(v, x_t, t), x0, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(SCHEDULE.to_eps(v, x_t, t), eps, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(x_t**2 + v**2, x0**2 + eps**2, atol=1e-5, rtol=1e-5)


@settings(deadline=None)
@given(t=st.integers(0, 900), seed=seeds)
def test_kinds_of_output_agree(t, seed):
    """x0 and noise follow from any of the three kinds; t stays where sqrt(acp) > 0.05: division keeps 4 digits."""
    x0, eps = pair(seed)
    x_t = SCHEDULE.add_noise(x0, eps, t)
    for kind, output in (("x0", x0), ("epsilon", eps), ("v", SCHEDULE.to_v(x0, eps, t))):
        torch.testing.assert_close(SCHEDULE.to_x0(output, x_t, t, kind), x0, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(SCHEDULE.to_eps(output, x_t, t, kind), eps, atol=1e-4, rtol=1e-4)


@settings(deadline=None)
@given(t=timesteps, to=timesteps, seed=seeds)
def test_moving_x0_is_rescaling_z(t, to, seed):
    z, _ = pair(seed)
    moved = SCHEDULE.move_x0(SCHEDULE.scale_latents(z, t), t, to)
    torch.testing.assert_close(moved, SCHEDULE.scale_latents(z, to), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(SCHEDULE.unscale_latents(SCHEDULE.scale_latents(z, t), t), z)


def test_timesteps_may_differ_within_a_batch():
    x0, eps = pair(0)
    both = SCHEDULE.add_noise(x0, eps, torch.tensor([10, 900]))
    for i, t in enumerate((10, 900)):
        assert torch.equal(both[i : i + 1], SCHEDULE.add_noise(x0[i : i + 1], eps[i : i + 1], t))


def test_ends():
    assert SCHEDULE.alphas_cumprod[-1] == 0  # pure noise
    assert abs(float(SCHEDULE.alphas_cumprod[0]) - 0.99914998) < 1e-8
    assert SCHEDULE.scale_arr[0] == 1 and torch.all(SCHEDULE.scale_arr[399:] == torch.tensor(0.3))
    assert len(SCHEDULE.scale_arr) == 1400
    assert torch.all(NoiseSchedule().scale_arr == 1)


def test_checkpoint_tables_are_complete_and_finite():
    tables = SCHEDULE.tables()
    assert set(CHECKPOINT_BUFFERS) == set(tables) - {"lvlb_weights"}
    assert all(torch.isfinite(table).all() and table.dtype == torch.float32 for table in tables.values())


@pytest.mark.parametrize("eta", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("num_steps", [4, 5, 10])
def test_ddim_step_is_that_of_diffusers(num_steps, eta):
    """Without dynamic rescale; diffusers has its tables in float32, hence 1e-4, and is NaN itself at eta 1."""
    theirs = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
    theirs.set_timesteps(num_steps)
    ours, (x_t, v) = NoiseSchedule(), pair(1)
    noise = torch.randn_like(x_t)
    steps = ours.timesteps(num_steps)
    assert steps == theirs.timesteps.tolist()
    for t, t_prev in zip(steps, [*steps[1:], 0], strict=True):
        expected = theirs.step(v, t, x_t, eta=eta, variance_noise=noise if eta > 0 else None).prev_sample
        x0, eps = ours.to_x0(v, x_t, t), ours.to_eps(v, x_t, t)
        actual = ours.ddim_step(x0, eps, t, t_prev, eta, noise if eta > 0 else None)
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_trailing_timesteps_of_student_and_teacher():
    assert SCHEDULE.timesteps(4) == [999, 749, 499, 249]
    assert SCHEDULE.timesteps(50)[:2] == [999, 979] and SCHEDULE.timesteps(50)[-1] == 19
    assert SCHEDULE.timesteps(4, "uniform") == [751, 501, 251, 1]
    assert SCHEDULE.timesteps(4, "quad") == [801, 356, 89, 1]
    assert len(SCHEDULE.timesteps(30, "uniform")) == 31


@given(num_steps=st.integers(1, 1000))
def test_trailing_timesteps_are_as_many_as_asked_and_in_range(num_steps):
    steps = SCHEDULE.timesteps(num_steps)
    assert len(steps) == num_steps
    assert steps[0] == 999 and steps[-1] >= 0
    assert all(a > b for a, b in pairwise(steps))


def test_casting_leaves_the_tables_alone():
    schedule = NoiseSchedule(base_scale=0.7).to(torch.bfloat16)
    assert torch.equal(schedule.alphas_cumprod, SCHEDULE.alphas_cumprod)
    assert schedule.half().scale_arr.dtype == torch.float32


def test_folder_round_trip(tmp_path):
    NoiseSchedule(base_scale=0.7).save_pretrained(tmp_path)
    assert NoiseSchedule.from_pretrained(tmp_path).config.base_scale == 0.7


@pytest.mark.parametrize("t", [-1, 1000])
def test_timesteps_out_of_range_are_refused(t):
    x0, eps = pair(0)
    with pytest.raises(InputError, match=r"timestep must lie in 0 \.\. 999"):
        SCHEDULE.add_noise(x0, eps, torch.tensor([5, t]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0,), "num_steps"), ((1001,), "num_steps"), ((4, "linear"), "spacing"), ((700, "uniform"), "num_steps")],
)
def test_impossible_timesteps_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SCHEDULE.timesteps(*arguments)


@pytest.mark.parametrize("options", [{"base_scale": 0.0}, {"beta_start": 0.1, "beta_end": 0.01}])
def test_impossible_schedules_are_refused(options):
    with pytest.raises(InputError):
        NoiseSchedule(**options)


def test_unknown_kind_is_refused():
    x0, eps = pair(0)
    with pytest.raises(InputError, match="kind must be one of"):
        SCHEDULE.to_x0(x0, eps, 5, kind="score")
