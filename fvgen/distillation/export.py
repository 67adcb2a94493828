"""A trained network as a pipeline folder: what users load, with nothing left of the training but its description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fvgen.distillation.settings import Sampler
from fvgen.files import disk_errors, whole_folder
from fvgen.models.folder import new_folder, read_settings
from fvgen.models.unet_3d import VideoUNet

DISK_FULL = "Free disk space and start the same command again: checkpoints are kept."


@dataclass(frozen=True)
class ModelCard:
    """What a user should know of a trained network."""

    name: str
    recipe: str
    """Name of the objective."""
    steps: int
    """Updates of the student."""
    sampling: str
    """How it is sampled, in words."""
    settings: Mapping[str, Any]
    """The run's identity."""
    config_hash: str
    data: Mapping[str, Any]
    """Name and number of the clips, and how they were made."""
    teacher: str | None
    """Pipeline that the weights were started from; None: from nothing."""
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def licence(self) -> str:
        """What the weights' origin means for their use, in words."""
        if self.teacher is None:
            return "The weights were trained from nothing on the data below."
        return "The weights are a derivative of the ones they were started from and carry their licence."

    def text(self) -> str:
        """Markdown with the header that model hubs read."""
        metrics = "\n".join(f"| {name} | {value:.6g} |" for name, value in self.metrics.items())
        data = "\n".join(f"- {name}: {value}" for name, value in self.data.items())
        return f"""---
library_name: diffusers
pipeline_tag: image-to-video
tags: [fvgen, novel-view-synthesis, distillation]
---

# {self.name}

A video network that fills in the views between photos, for `fvgen.generation.pipeline_fvgen.FVGenPipeline` and the
Nerfstudio plugin. {self.sampling}

- recipe: {self.recipe}
- steps: {self.steps}
- started from: {self.teacher or "nothing"}
- configuration hash: {self.config_hash}

{self.licence}

## Data

{data}

## Measured at the end of training

| figure | value |
|---|---|
{metrics or "| none | - |"}

## Settings

```json
{json.dumps(self.settings, indent=1)}
```
"""


def few_steps(timesteps: Sequence[int]) -> str:
    """How a student of these timesteps is sampled, in words for its card."""
    return f"{len(timesteps)} steps at the timesteps {', '.join(map(str, timesteps))}, without guidance."


def export_pipeline(
    network: VideoUNet,
    like: Path,
    output: Path,
    card: ModelCard,
    timesteps: Sequence[int],
    dtype: torch.dtype = torch.float16,
    max_shard_size: str = "5GB",
) -> Path:
    """Write a pipeline folder that holds ``network`` and, for the rest, copies of another one's components.

    Args:
        network: the trained one; adapters merged.
        like: pipeline folder with the same codec, schedule and towers: the teacher's.
        output: folder to write, whole or not at all; an older export there is replaced.
        card: what becomes README.md.
        timesteps: largest first, that a student was trained at and is sampled at; none for a teacher.
        dtype: precision of the stored weights.
        max_shard_size: size limit of one weight file.

    Raises:
        InputError: ``like`` is no pipeline folder, or ``output`` cannot be written; an older export is then as it was.
    """
    residual = read_settings(like).get("residual")
    sampler: Sampler = "few_step" if timesteps else "ddim"
    with (
        disk_errors("output", output, DISK_FULL),
        new_folder(output, sampler, residual, timesteps or None) as writer,
    ):
        writer.copy(like, without="unet")
        writer.add("unet", torch.nn.Module.to(network, dtype), max_shard_size)
        (writer.path / "README.md").write_text(card.text(), encoding="utf-8")
    return output


def export_discriminator(discriminator: Any, output: Path) -> None:
    """Write a trained discriminator's folder, whole or not at all.

    Raises:
        InputError: ``output`` cannot be written; an older export is then as it was.
    """
    with disk_errors("output", output, DISK_FULL), whole_folder(output) as folder:
        discriminator.save_pretrained(folder)
