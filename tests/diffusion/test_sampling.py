"""Samplers with networks whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.clip import Conditions
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.guidance import guide
from fvgen.diffusion.noise import ClipNoise
from fvgen.diffusion.sampling import sample_ddim, sample_few_step
from fvgen.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule(base_scale=0.3)
STUDENT = [999, 749, 499, 249]
Z = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def knows_the_answer(x_t, t):
    """A network that always sees the clean clip Z."""
    return SCHEDULE.scale_latents(Z, t)


def standard_normal(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return lambda x: torch.randn(x.shape, generator=generator)


def test_few_steps_of_a_perfect_network_give_the_clip_itself():
    z = sample_few_step(knows_the_answer, torch.randn(Z.shape), STUDENT, SCHEDULE, randn_like=standard_normal())
    torch.testing.assert_close(z, Z, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_of_a_perfect_network_gives_the_clip_at_timestep_zero(eta):
    """The last step ends at ᾱ_0 = 0.99915, not at 1: the clip with noise of standard deviation sqrt(1 - ᾱ_0)."""
    x = sample_ddim(
        knows_the_answer, torch.randn(Z.shape), SCHEDULE.timesteps(10), SCHEDULE, randn_like=standard_normal(), eta=eta
    )
    noise = (x - SCHEDULE.sqrt_alphas_cumprod[0] * Z) / SCHEDULE.sqrt_one_minus_alphas_cumprod[0]
    assert 0.6 < float(noise.std()) < 1.4  # 24 draws from a standard normal


@pytest.mark.parametrize("predicted", [False, True])
def test_few_steps_see_correctly_noised_inputs(predicted):
    """x at every step is the scaled clip plus noise of the schedule's level: fresh, or the one predicted."""
    seen, draws = [], []

    def denoise(x_t, t):
        seen.append((x_t, int(t[0])))
        return knows_the_answer(x_t, t)

    def randn_like(x):
        draws.append(standard_normal(len(draws))(x))
        return draws[-1]

    start = torch.randn(Z.shape)
    how = "predicted" if predicted else "fresh"
    sample_few_step(denoise, start, STUDENT, SCHEDULE, randn_like=randn_like, renoise=how)
    assert [t for _, t in seen] == STUDENT
    noises = [start] * 4 if predicted else [start, *draws]
    for (x_t, t), noise in zip(seen, noises, strict=True):
        expected = SCHEDULE.add_noise(SCHEDULE.scale_latents(Z, t), noise, t)
        torch.testing.assert_close(x_t, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grad_step", [0, 2, 3])
def test_gradient_flows_through_one_step_only_and_sampling_stops_there(grad_step):
    weights = [torch.ones((), requires_grad=True) for _ in STUDENT]
    calls = []

    def denoise(x_t, t):
        weight = weights[len(calls)]
        calls.append(torch.is_grad_enabled())
        return weight * (0.1 * x_t + 0.5)

    z = sample_few_step(
        denoise, torch.randn(Z.shape), STUDENT, SCHEDULE, randn_like=standard_normal(), grad_step=grad_step
    )
    z.sum().backward()
    assert calls == [False] * grad_step + [True]
    assert [w.grad is not None for w in weights] == [i == grad_step for i in range(4)]


def test_without_grad_step_gradients_go_through_all_steps():
    weight = torch.ones((), requires_grad=True)
    z = sample_few_step(
        lambda x, t: weight * 0.5 * x, torch.randn(Z.shape), STUDENT, SCHEDULE, randn_like=standard_normal()
    )
    z.sum().backward()
    assert weight.grad is not None and weight.grad.abs() > 0


def test_callbacks_see_and_replace():
    seen = []

    def callback(step, t, x):
        seen.append((step, t))
        return torch.zeros_like(x)

    start = torch.randn(Z.shape)
    for sample in (sample_few_step, sample_ddim):
        z = sample(knows_the_answer, start, STUDENT, SCHEDULE, randn_like=standard_normal(), callback=callback)
        assert torch.equal(z, torch.zeros_like(z))
    assert seen == list(enumerate(STUDENT)) * 2


def originally_nan(num_steps):
    """Whether the original's first ancestral step takes the root of a negative number."""
    t, t_prev = SCHEDULE.timesteps(num_steps)[:2] if num_steps > 1 else (999, 0)
    sigma = torch.tensor(SCHEDULE.ddim_sigma(t, t_prev, 1.0), dtype=torch.float32)
    return bool(1.0 - SCHEDULE.alphas_cumprod[t_prev] - sigma**2 < 0)


def test_no_step_count_gives_nan():
    """FACTS: 7, 11, 14, 15, 20, 25, .. were NaN in the original; 61, 103, .. had a step at timestep -1."""
    assert {s for s in range(1, 65) if originally_nan(s)} >= {7, 11, 14, 15, 20, 25, 33, 39, 62}
    for num_steps in (*range(1, 65), 103, 121):
        steps = SCHEDULE.timesteps(num_steps)
        assert len(steps) == num_steps and min(steps) >= 0
        x = sample_ddim(
            lambda x_t, t: 0.1 * x_t, torch.randn(Z.shape), steps, SCHEDULE, randn_like=standard_normal(), eta=1.0
        )
        assert torch.isfinite(x).all(), num_steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timesteps": []}, "timesteps must hold"),
        ({"timesteps": [1000, 3]}, "timestep must lie"),
        ({"timesteps": [249, 999]}, "timesteps must run"),
        ({"grad_step": 4}, "grad_step must lie"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    arguments = {"timesteps": STUDENT, **options}
    with pytest.raises(InputError, match=message):
        sample_few_step(knows_the_answer, Z, schedule=SCHEDULE, randn_like=standard_normal(), **arguments)


def test_eta_is_checked():
    with pytest.raises(InputError, match="eta must lie"):
        sample_ddim(knows_the_answer, Z, STUDENT, SCHEDULE, randn_like=standard_normal(), eta=1.5)


def test_guide_against_numpy():
    conditional, unconditional = torch.randn(2, 2, 3, 4, 5)
    vc, vu = conditional.double().numpy(), unconditional.double().numpy()
    v = vu + 7.5 * (vc - vu)
    deviation = [x.reshape(2, -1).std(axis=1, ddof=1).reshape(2, 1, 1, 1) for x in (vc, v)]
    expected = 0.7 * v * deviation[0] / deviation[1] + 0.3 * v
    actual = guide(conditional, unconditional, 7.5, 0.7).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_full_rescale_restores_the_deviation():
    conditional, unconditional = torch.randn(2, 3, 50)
    guided = guide(conditional, unconditional, 5.0, 1.0)
    torch.testing.assert_close(guided.std(dim=1), conditional.std(dim=1))
    torch.testing.assert_close(guide(conditional, unconditional, 1.0), conditional)


def test_an_output_without_contrast_stays_finite():
    zeros = torch.zeros(2, 3, 4)
    assert torch.equal(guide(zeros, zeros, 7.5, 0.7), zeros)


@pytest.mark.filterwarnings("error")  # torch warns of a deviation without degrees of freedom
@pytest.mark.parametrize("shape", [(2, 1), (2, 1, 1, 1)])
def test_one_number_per_sample_has_no_contrast_to_put_back(shape):
    conditional, unconditional = torch.tensor([2.0, 3.0]).reshape(shape), torch.ones(shape)
    expected = torch.tensor([8.5, 16.0]).reshape(shape)
    assert torch.equal(guide(conditional, unconditional, 7.5, 0.7), expected)


@pytest.mark.parametrize("rescale", [-0.1, 1.1])
def test_guide_checks_its_numbers(rescale):
    with pytest.raises(InputError, match="rescale must lie"):
        guide(Z, Z, 2.0, rescale)
    with pytest.raises(InputError, match="unconditional must have"):
        guide(Z, Z[:1], 2.0)
    with pytest.raises(InputError, match=r"conditional must have shape \[B"):
        guide(Z[0, 0, 0], Z[0, 0, 0], 2.0, 0.7)


class Output:
    def __init__(self, sample):
        self.sample = sample


def conditions(batch=1, unconditional=True):
    renders = torch.full((batch, 2, 3, 4, 4), 5.0)
    tokens = torch.ones(batch, 2, 6)
    return Conditions(renders, tokens, torch.full((batch,), 10), -tokens if unconditional else None)


def test_denoiser_stacks_noise_before_renders_and_guides():
    seen = []

    def network(sample, t, tokens, fps):
        seen.append((sample, tokens.mean(), fps))
        return Output(tokens.mean() * torch.ones_like(sample[:, :, :3]))

    x_t, t = torch.randn(1, 2, 3, 4, 4), torch.tensor([500])
    x0 = conditional_denoiser(network, conditions(), SCHEDULE, guidance_scale=3.0)(x_t, t)
    assert torch.equal(seen[0][0][:, :, :3], x_t) and torch.all(seen[0][0][:, :, 3:] == 5)
    assert [float(mean) for _, mean, _ in seen] == [1.0, -1.0]  # with the tokens, then without
    guided = torch.full_like(x_t, -1 + 3.0 * 2)
    torch.testing.assert_close(x0, SCHEDULE.to_x0(guided, x_t, t))


def test_denoiser_without_guidance_calls_once_and_keeps_the_dtype():
    calls = []

    def network(sample, t, tokens, fps):
        calls.append(sample.dtype)
        return Output(sample[:, :, :3])

    denoise = conditional_denoiser(network, conditions(unconditional=False), SCHEDULE, dtype=torch.bfloat16)
    assert denoise(torch.randn(1, 2, 3, 4, 4), torch.tensor([500])).dtype == torch.float32
    assert calls == [torch.bfloat16]


def test_guidance_needs_unconditional_tokens():
    with pytest.raises(InputError, match="unconditional_tokens must be given"):
        conditional_denoiser(None, conditions(unconditional=False), SCHEDULE, guidance_scale=2.0)


def test_clip_noise_depends_on_seed_clip_and_frame_alone():
    def like(b, f):
        return torch.empty(b, f, 2, 3, 5)

    both = ClipNoise(1, [4, 9], frames=6)(like(2, 6))
    assert torch.equal(ClipNoise(1, [9], frames=6)(like(1, 6))[0], both[1])
    assert torch.equal(ClipNoise(1, [4], frames=3)(like(1, 3))[0], both[0, :3])
    flat = [both[0, 0], both[0, 1], both[1, 0], ClipNoise(2, [4], 1)(like(1, 1))[0, 0]]
    flat.append(ClipNoise(1, [4], 1, stream=1)(like(1, 1))[0, 0])
    assert len({float(x.sum()) for x in flat}) == len(flat)


def test_clip_noise_of_a_later_window_is_that_of_the_whole_clip():
    whole = ClipNoise(3, [5], 8)(torch.empty(1, 8, 2, 3))
    assert torch.equal(ClipNoise(3, [5], 4, first_frame=4)(torch.empty(1, 4, 2, 3)), whole[:, 4:])


def test_clip_noise_moves_on_and_is_standard_normal():
    noise = ClipNoise(0, [0], frames=4)
    first, second = noise(torch.empty(1, 4, 4, 32, 32)), noise(torch.empty(1, 4, 4, 32, 32))
    assert not torch.equal(first, second)
    count = first.numel()
    assert abs(float(first.mean())) < 5 / math.sqrt(count)
    assert abs(float(first.var()) - 1) < 5 * math.sqrt(2 / count)
    assert abs(float((first * second).mean())) < 5 / math.sqrt(count)


def test_clip_noise_refuses_negative_numbers():
    with pytest.raises(InputError, match="seed and clips must be 0 or more"):
        ClipNoise(-1, [0], 2)
