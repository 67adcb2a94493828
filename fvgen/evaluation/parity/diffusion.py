"""Schedule, formulas and sampler against their references."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.clip import Conditions
from fvgen.conditioning.prompts import EMPTY_IDS, PROMPT_IDS
from fvgen.diffusion.denoising import conditional_denoiser
from fvgen.diffusion.guidance import guide
from fvgen.diffusion.sampling import sample_ddim
from fvgen.diffusion.schedule import NoiseSchedule
from fvgen.evaluation.parity.networks import single_precision, swap_axes
from fvgen.evaluation.parity.vectors import Comparison, Comparisons, VectorFile
from fvgen.models.convert_viewcrafter_unet import load_unet_vector

FORMULA_TOLERANCE = 2e-6
"""A handful of float32 operations on values of order 1; sums for a deviation may run in another order."""
DDIM_TOLERANCE = 1e-4
"""Five guided steps: guidance of 7.5 amplifies the network's own 5e-6; 4e-5 seen."""


def check_schedule(vector: VectorFile) -> Comparisons:
    """Every table, exact to one unit in the last place."""
    schedules: dict[float, NoiseSchedule] = {}
    for name in vector.tensors:
        base = re.search(r"base([\d.]+)$", name)
        scale = float(base[1]) if base else 1.0
        schedule = schedules.setdefault(scale, NoiseSchedule(base_scale=scale))
        expected = _schedule_entry(schedule, name)
        if expected is not None:
            yield vector.compare_ulps(name, expected)


def _schedule_entry(schedule: NoiseSchedule, name: str) -> Tensor | None:
    """The table that goes by this name in a file; None for a name of another kind."""
    group, _, rest = name.partition(".")
    if group == "f64":
        table = schedule.tables_float64().get(rest)
        return None if table is None else torch.from_numpy(table)
    if group in ("buffer", "scale_arr"):
        return schedule.tables().get(rest if group == "buffer" else group)
    steps = re.fullmatch(r"ddim(\d+)\.(\w+?)\.(.+)", name)
    if steps is None:
        return None
    descending = schedule.timesteps(int(steps[1]), steps[2])  # type: ignore[arg-type]
    return _ddim_entry(schedule, descending[::-1], steps[3])


def _ddim_entry(schedule: NoiseSchedule, ascending: list[int], what: str) -> Tensor | None:
    previous = [0, *ascending[:-1]]
    alphas = schedule.alphas_cumprod
    what = re.sub(r"\.base[\d.]+$", "", what)
    if sigmas := re.fullmatch(r"eta([\d.]+)\.sigmas", what):
        eta = float(sigmas[1])
        values = [schedule.ddim_sigma(t, p, eta) for t, p in zip(ascending, previous, strict=True)]
        return torch.tensor(values, dtype=torch.float64)
    entries = {
        "timesteps": torch.tensor(ascending),
        "alphas": alphas[ascending],
        "alphas_prev": alphas[previous].double(),
        # NumPy rounds this root correctly on every machine; torch's vectorised one is off by a unit here and there.
        "sqrt_one_minus_alphas": torch.from_numpy(np.sqrt(1 - alphas[ascending].numpy())),
        "scale": schedule.scale_arr[ascending],
        "scale_prev": schedule.scale_arr[previous],
    }
    return entries.get(what)


def check_diffusion_math(vector: VectorFile) -> Comparisons:
    """Dynamic rescale, noising, v, x0, noise, guidance; the token ids of the prompt and of no text."""
    schedule = NoiseSchedule(base_scale=float(vector.setting("base_scale")))
    z, noise, v, t = (vector[f"in.{name}"] for name in ("z", "noise", "v", "t"))
    x0 = schedule.scale_latents(z, t)
    x_t = schedule.add_noise(x0, noise, t)
    outputs = {
        "out.z_scaled": x0,
        "out.x_t": x_t,
        "out.v_target": schedule.to_v(x0, noise, t),
        "out.x0_from_v": schedule.to_x0(v, x_t, t),
        "out.eps_from_v": schedule.to_eps(v, x_t, t),
    }
    for name in vector.tensors:
        if match := re.fullmatch(r"out\.cfg([\d.]+?)(?:_rescale([\d.]+))?", name):
            scale, rescale = float(match[1]), float(match[2] or 0)
            outputs[name] = guide(vector["in.v_cond"], vector["in.v_uncond"], scale, rescale)
    for name, output in outputs.items():
        if name in vector:
            yield vector.compare(name, output, FORMULA_TOLERANCE)
    for name, ids in (("tokens.prompt", PROMPT_IDS), ("tokens.empty", EMPTY_IDS)):
        if name in vector:
            yield vector.compare(name, torch.tensor([ids]), 0.0)


def _weights(vector: VectorFile) -> dict[str, Tensor]:
    """The UNet's weights: in the file itself, or in the file that the configuration names, beside it or a folder up."""
    own = vector.below("sd.")
    if own:
        return own
    named = str(vector.setting("weights")).removesuffix(".safetensors")
    folder = vector.path.parent
    candidates = [folder / f"{Path(named).name}.safetensors", folder.parent / f"{named}.safetensors"]
    # The file that holds weights names them as well, so a renamed copy is still found.
    candidates += [file for file in sorted(folder.glob("*.safetensors")) if _names_weights(file, named)]
    for file in candidates:
        if file.exists() and (weights := VectorFile.load(file).below("sd.")):
            return weights
    rule = f"stand in {candidates[0].name} beside it"
    next_step = f"Copy the file that holds {named}."
    raise InputError(complaint(f"{vector.path.name}'s weights", rule, "no such file", next_step))


def _names_weights(file: Path, named: str) -> bool:
    return file.stem.startswith("ddim") and VectorFile.load(file).config.get("weights") == named


def _conditions(vector: VectorFile, default_fps: int) -> Conditions:
    fps = vector["in.fs"] if "in.fs" in vector else torch.full((len(vector["in.x_T"]),), default_fps)
    unconditional = vector["in.uncond_context"].float() if "in.uncond_context" in vector else None
    return Conditions(swap_axes(vector["in.c_concat"]).float(), vector["in.context"].float(), fps, unconditional)


def _sampled(vector: VectorFile, schedule: NoiseSchedule, timesteps: list[int]) -> dict[str, list[Tensor]]:
    """The sampler's run on the file's inputs: what each step saw and made, [B, C, F, h, w], by the file's names."""
    unet = load_unet_vector({"unet": vector.setting("unet")}, single_precision(_weights(vector)))
    guidance, eta = float(vector.setting("cfg")), float(vector.setting("eta"))
    outputs, clean, noisy = [], [], []

    def network(*inputs):
        outputs.append(unet(*inputs))
        return outputs[-1]

    denoise = conditional_denoiser(
        network,
        _conditions(vector, unet.config.default_fps),
        schedule,
        guidance_scale=guidance,
        guidance_rescale=float(vector.config.get("guidance_rescale", 0)),
    )

    def recorded(x_t: Tensor, t: Tensor) -> Tensor:
        clean.append(denoise(x_t, t))
        return clean[-1]

    noises = iter(vector["in.noises"] if eta > 0 else ())
    last = sample_ddim(
        recorded,
        swap_axes(vector["in.x_T"]).float(),
        timesteps,
        schedule,
        randn_like=lambda _: swap_axes(next(noises)).float(),
        eta=eta,
        callback=lambda _step, _t, x: noisy.append(x),
    )
    calls = 1 if guidance == 1 else 2
    predicted = [output.sample for output in outputs]
    # The original records x0 as it goes into the next step, so scaled for that one.
    moved = [schedule.move_x0(x, t, p) for x, t, p in zip(clean, timesteps, [*timesteps[1:], 0], strict=True)]
    made = {"v_cond": predicted[::calls], "v_uncond": predicted[1::2] if calls == 2 else [], "pred_x0": moved}
    made = {f"steps.{name}": values for name, values in made.items()} | {"steps.x_prev": noisy, "out.x0": [last]}
    return {name: [swap_axes(x) for x in values] for name, values in made.items()}


def check_ddim(vector: VectorFile) -> Comparisons:
    """Every step's network outputs, x0 and x, from the sampler running freely, and its result."""
    schedule = NoiseSchedule(base_scale=float(vector.setting("base_scale")))
    spacing = vector.config.get("spacing", "uniform_trailing")
    timesteps = schedule.timesteps(int(vector.setting("steps")), spacing)
    exact = {"steps.t": timesteps, "steps.index": list(range(len(timesteps)))[::-1]}
    for name, numbers in exact.items():
        if name in vector:
            yield vector.compare(name, torch.tensor(numbers), 0.0)
    lost = first_nan(schedule, timesteps, float(vector.setting("eta")))
    for name, values in _sampled(vector, schedule, timesteps).items():
        if name in vector and values:
            actual = torch.stack(values) if name.startswith("steps.") else values[0]
            # What a step makes is lost with it, what it is given only after it.
            whole = lost + (name != "steps.x_prev") if name.startswith("steps.") else 0
            yield _where_the_original_has_numbers(vector, name, actual, len(timesteps), lost < len(timesteps), whole)


def first_nan(schedule: NoiseSchedule, timesteps: list[int], eta: float) -> int:
    """The step at which the original takes the root of ``1 - alpha_prev - sigma^2`` that rounded below zero, or their
    number: with eta 1 it does so for 7, 11, 14, .. steps, and loses the whole sample."""
    for step, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], 0], strict=True)):
        alpha, sigma = np.float32(schedule.alphas_cumprod[t_prev]), np.float32(schedule.ddim_sigma(t, t_prev, eta))
        if np.float32(1) - alpha - sigma * sigma < 0:
            return step
    return len(timesteps)


def _where_the_original_has_numbers(
    vector: VectorFile, name: str, actual: Tensor, num_steps: int, loses: bool, whole: int
) -> Comparison:
    """Compared where the reference has numbers; it must have them everywhere, or, where the original loses the sample,
    in its first ``whole`` entries. Ours must not lose any."""
    known = torch.ones_like(vector[name], dtype=torch.bool)
    if loses:
        known = torch.isfinite(vector[name])
        known[:whole] = True
    if not bool(torch.isfinite(actual).all()):
        actual = torch.full_like(actual, torch.nan)
    return vector.compare(name, actual, DDIM_TOLERANCE * max(1.0, num_steps / 5), known)
