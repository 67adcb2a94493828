"""How a training run's discriminator fares against its student on clips that neither of them was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvgen.data.shards import ShardDataset
from fvgen.distillation.checkpoint import CHECKPOINTS
from fvgen.distillation.density_ratio import DensityRatio
from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.adversarial import Adversarial
from fvgen.distillation.objectives.draws import draw_clips
from fvgen.distillation.objectives.fvgen_stage1 import FVGenStage1
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.roles import Roles
from fvgen.distillation.start import Start, start_roles

DISCRIMINATOR = "discriminator"
"""Folder of a run's discriminator, inside its own."""
CLIPS = 4
"""Clips that are asked about at once."""


def discriminator_on_clips(
    run: Path, discriminator: Path, teacher: Path, clips: Path, crop: tuple[int, int] | None, views: int = 2
) -> dict[str, float]:
    """Accuracies, loss and weights h(r) of a discriminator against a run's student in the end; nothing where there is
    no such discriminator.

    A student's clips are drawn as in the run. ``own noise`` are the noise levels that the run draws, ``low noise``
    those below a quarter of all. Mean and spread of h are of the weights that softened reverse KL gives the student's
    clips by this discriminator.

    Args:
        run: folder of a run that has exported its student.
        discriminator: folder of the run's own, or of the one that it was given.
        teacher: pipeline folder that it was distilled from.
        clips: folder of clips.
        crop: height and width in pixels of the window that clips are cut to, as in training; None for all of it.
        views: how often each clip is seen.
    """
    recipe = _recipe(settings_of_run(run))
    if recipe is None or not discriminator.is_dir():
        return {}
    roles = start_roles(recipe, Start(teacher, run / "student", discriminator), seed=0)
    data = ShardDataset(clips, views=views, crop=crop)
    ranges = {"own noise": recipe.adversarial.t_range, "low noise": (0.0, 0.25)}
    return {
        f"{noise}, {name}": value
        for noise, t_range in ranges.items()
        for name, value in figures(roles, _at(recipe, t_range), data).items()
    }


def settings_of_run(run: Path) -> dict[str, Any]:
    """The settings that a run's newest checkpoint was trained with, as plain JSON."""
    state = max((run / CHECKPOINTS).glob("step-*")) / "state.json"
    return json.loads(state.read_text(encoding="utf-8"))["settings"]


def _recipe(settings: Mapping[str, Any]) -> FVGenStage1 | None:
    """How a run draws its student's clips and shows them to its discriminator; None where that sits on the fake score,
    which is not exported."""
    objective = settings["objective"]
    seen = objective.get("adversarial")
    if seen is None or seen["backbone"] != "teacher":
        return None
    adversarial = Adversarial(**{**seen, "t_range": tuple(seen["t_range"])})
    return FVGenStage1(tuple(objective["timesteps"]), objective["student_input"], adversarial=adversarial)


def _at(recipe: FVGenStage1, t_range: tuple[float, float]) -> FVGenStage1:
    return replace(recipe, adversarial=replace(recipe.adversarial, t_range=t_range))


@torch.no_grad()
def figures(roles: Roles, recipe: FVGenStage1, data: ShardDataset) -> dict[str, float]:
    """Shares of real and of the student's clips that the discriminator is right about, its loss (2 ln 2 at chance),
    mean and spread of h(r) over the student's clips."""
    found: dict[str, list[Tensor]] = {"logit_real": [], "logit_fake": [], "discriminator": []}
    for first in range(0, len(data), CLIPS):
        keys = range(first, min(first + CLIPS, len(data)))
        batch, random = data.batch(keys), BatchRandom((0,), keys)
        z = draw_clips(roles, batch, random, recipe.timesteps, recipe.student_input)
        _, meters = recipe.adversarial.critic_term(roles, z, batch, random)
        for key, values in found.items():
            values.append(meters[key].expand(len(batch)))
    real, fake, loss = (torch.cat(values) for values in found.values())
    h = DIVERGENCES["softened_reverse_kl"].h(DensityRatio()(fake))
    return {
        "real right": float((real > 0).float().mean()),
        "fake right": float((fake < 0).float().mean()),
        "loss": float(loss.mean()),
        "h mean": float(h.mean()),
        "h spread": float(h.std(unbiased=False)),
    }
