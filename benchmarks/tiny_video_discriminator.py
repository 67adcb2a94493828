"""How the discriminators of `tiny_video`'s runs fare on clips that they were not trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tiny_video_runs import Run
from torch import Tensor

from fvgen.data.shards import ShardDataset
from fvgen.distillation.configs import PRESETS
from fvgen.distillation.density_ratio import DensityRatio
from fvgen.distillation.divergences import DIVERGENCES
from fvgen.distillation.objectives.draws import draw_clips
from fvgen.distillation.randomness import BatchRandom
from fvgen.distillation.start import Start, start_roles

CLIPS = 4
"""Number of clips that a discriminator sees at once."""


@torch.no_grad()
def discriminator_on_clips(run: Run, teacher: Path, clips: Path, crop: int) -> dict[str, float]:
    """How a run's discriminator fares against its student in the end, on clips that neither was trained on.

    Each clip is seen twice; low noise are timesteps below a quarter of all. Mean and spread of the weights h(r) are
    those that softened reverse KL gives the student's clips by this discriminator. Nothing where there is none.
    """
    folder = run.output / "discriminator"
    if not folder.is_dir():
        return {}
    objective: Any = PRESETS[run.stage.preset].objective
    if objective.adversarial.backbone != "teacher" or objective.frame_matching is not None:
        return {}  # it would take the fake score, or the image model, to ask it
    roles = start_roles(objective, Start(teacher, run.output / "student", folder), seed=0)
    data = ShardDataset(clips, views=2, crop=(crop, crop))
    figures = {}
    for name, t_range in (("all noise", (0.0, 1.0)), ("low noise", (0.0, 0.25))):
        adversarial = replace(objective.adversarial, t_range=t_range)
        figures_of: dict[str, list[Tensor]] = {"logit_real": [], "logit_fake": [], "discriminator": []}
        for first in range(0, len(data), CLIPS):
            keys = range(first, min(first + CLIPS, len(data)))
            batch, random = data.batch(keys), BatchRandom((0,), keys)
            z = draw_clips(roles, batch, random, objective.timesteps, objective.student_input)
            _, meters = adversarial.critic_term(roles, z, batch, random)
            for key, values in figures_of.items():
                values.append(meters[key].expand(len(batch)))
        real, fake, loss = (torch.cat(values) for values in figures_of.values())
        figures[f"{name}, real right"] = float((real > 0).float().mean())
        figures[f"{name}, fake right"] = float((fake < 0).float().mean())
        figures[f"{name}, loss"] = float(loss.mean())
        h = DIVERGENCES["softened_reverse_kl"].h(DensityRatio()(fake))
        figures[f"{name}, h mean"], figures[f"{name}, h spread"] = float(h.mean()), float(h.std(unbiased=False))
    return figures
