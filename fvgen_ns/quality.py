"""One choice for how much a run costs: steps, sizes and points together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import tyro

QualityName = Literal["quick", "standard", "high"]


class Quality(NamedTuple):
    """Sizes of a run."""

    iterations: int
    image_size: int
    """Longest side that the splat trains on, in pixels."""
    working_size: int
    """Longest side that geometry works on: a little finer than what is trained on; finer still only takes time."""
    max_points: int


QUALITIES: dict[QualityName, Quality] = {
    "quick": Quality(600, 256, 320, 30_000),
    "standard": Quality(2000, 480, 480, 80_000),
    "high": Quality(7000, 1600, 480, 500_000),
}


@dataclass
class FirstOptions:
    """What stands first in the help of ns-train: a base class that is named last gives a dataclass its first fields."""

    quality: QualityName = "standard"
    """Steps, image size and points together. By default fvgen-splat takes high on a GPU and standard without one, and
    fvgen-splat-cpu quick. Sizes that are set to other numbers than the method's own stay."""
    compare: tyro.conf.UseCounterAction[int] = 0
    """Train on the photos alone, too, with the same steps and size, and compare both in the report."""
    sizes_of: tyro.conf.Suppress[QualityName] = "standard"
    """Quality whose sizes the options hold, but for those that the user has set."""
    pipeline: Any = None


def set_sizes(config: Any, sizes: Quality) -> None:
    """Give a trainer's config these sizes."""
    manager = config.pipeline.datamanager
    config.max_num_iterations = sizes.iterations
    manager.image_size, manager.max_points = sizes.image_size, sizes.max_points
    manager.densify.working_size = sizes.working_size


def follow_quality(config: Any) -> None:
    """Give a trainer's config the sizes of its ``quality``, where it has those of ``sizes_of``."""
    manager, before, now = config.pipeline.datamanager, QUALITIES[config.sizes_of], QUALITIES[config.quality]
    found = Quality(config.max_num_iterations, manager.image_size, manager.densify.working_size, manager.max_points)
    set_sizes(config, Quality(*(n if f == b else f for f, b, n in zip(found, before, now, strict=True))))
    config.sizes_of = config.quality
