"""Which parts of the densification a capture gets: those that are asked for, unless trials show fewer or others to be
better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nerfstudio.utils.rich_utils import CONSOLE
from rich.table import Table
from torch import Tensor

from fvgen.generation.hole_points import hole_points
from fvgen.generation.trials import Addition, Trials, run_trials
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.background import background_points
from fvgen.geometry.points import empty_cloud, merge, voxel_thin
from fvgen.geometry.trajectory import PATH_STYLES
from fvgen.models.find import NEEDS_MODEL
from fvgen.types import Capture, GeneratedViews, PointCloud, Progress, SceneGeometry
from fvgen_ns.densify_config import DensifyConfig

DENSE, BACKGROUND, VIEWS, SEEDS = PARTS = "dense points", "background", "generated views", "seeds in holes"
Parts = frozenset[str]
TRIAL_FRAMES = 7
"""Frames of a clip in a trial, and of those whose holes give seeds."""


@dataclass(frozen=True)
class Choice:
    """What a capture gets, and why."""

    parts: Parts
    trials: Mapping[str, tuple[float, ...]]
    """Candidate -> AVGE on each photo left out; empty where nothing was tried."""
    notes: list[str]


def name_of(parts: Parts) -> str:
    """For a table."""
    return " + ".join(part for part in PARTS if part in parts) or "photos only"


def asked_for(config: DensifyConfig) -> Parts:
    """The parts that a configuration adds where trials do not change it."""
    wanted = {
        DENSE: True,
        BACKGROUND: config.background,
        VIEWS: config.generator != "none",
        SEEDS: config.seed_holes == "always",
    }
    return frozenset(part for part, is_wanted in wanted.items() if is_wanted)


def candidates(config: DensifyConfig, capture: Capture) -> list[Parts]:
    """What is tried for a configuration, in order of preference: the parts asked for; less of them; seeds in holes in
    place of the background; photos only. Never what the options rule out, nor anything without what they insist on.

    The views of a diffusion model take too long: a capture gets them untried.
    """
    default = asked_for(config)
    untried = frozenset({VIEWS} if config.generator in NEEDS_MODEL else ())
    allowed = default | ({SEEDS} if config.seed_holes == "auto" else frozenset())
    needed = {SEEDS} if config.seed_holes == "always" else set()
    if capture.sparse is None or untried:
        needed.add(DENSE)  # photos alone have nothing to start from, or views nothing to be made from
    nearer = default - {BACKGROUND}
    ordered = (default, nearer, nearer | {SEEDS}, default - {VIEWS}, nearer - {VIEWS}, frozenset[str]())
    return list(dict.fromkeys(parts - untried for parts in ordered if needed <= parts <= allowed))


def choose_parts(
    config: DensifyConfig,
    capture: Capture,
    geometry: SceneGeometry,
    *,
    walls: Tensor | None,
    scene_scale: float,
    progress: Progress,
) -> Choice:
    """The parts asked for, or what wins over them in trials; prints a table of these.

    Args:
        config: what is asked for, and whether there are trials.
        capture: the training photos.
        geometry: of them.
        walls: of the room that the background stands in; None where none is asked for.
        scene_scale: typical distance from the cameras.
        progress: of the trials.
    """
    default = asked_for(config)
    tried = candidates(config, capture)
    if not config.trials or len(tried) < 2:
        return Choice(default, {}, [])

    def make(part: Capture, known: SceneGeometry) -> dict[str, Addition]:
        return _additions(config, tried, part, known, scene_scale, walls)

    trials = run_trials(capture, geometry, make, scene_scale=scene_scale, seed=config.seed, progress=progress)
    if not trials.errors:
        return Choice(default, {}, [])
    first = name_of(tried[0])
    winner = trials.winner()
    CONSOLE.print(_table(trials, first, winner))
    chosen, untried = next(parts for parts in tried if name_of(parts) == winner), default - tried[0]
    means = ", ".join(f"{name} {trials.mean(name):.4f}" for name in trials.errors)
    note = f"Trials (AVGE on photos left out, lower is better): {means}. Chosen: {winner}."
    return Choice(chosen | untried, trials.errors, [note])


def views_for_seeds(config: DensifyConfig, capture: Capture, geometry: SceneGeometry) -> GeneratedViews:
    """Views without a network, a few between neighbouring photos."""
    path = PATH_STYLES["between"](capture.cameras, TRIAL_FRAMES)
    return VIEW_GENERATORS["warp"]().generate(capture, geometry, path, config.seed)


def _additions(
    config: DensifyConfig,
    tried: list[Parts],
    capture: Capture,
    geometry: SceneGeometry,
    scene_scale: float,
    walls: Tensor | None,
) -> dict[str, Addition]:
    """What each of the tried parts adds to photos of a trial."""
    pixel = scene_scale / float(capture.cameras.K[:, 0, 0].mean())
    sparse = empty_cloud(capture.photos.device) if capture.sparse is None else capture.sparse
    background = None if walls is None else background_points(capture, geometry, walls)
    warped = views_for_seeds(config, capture, geometry)
    clouds: dict[str, PointCloud] = {DENSE: voxel_thin(geometry.points, pixel), SEEDS: hole_points(warped)}
    views = dict.fromkeys((False, True), warped)
    if config.generator == "points":  # they know no background
        path = PATH_STYLES["between"](capture.cameras, TRIAL_FRAMES)
        views = dict.fromkeys(views, VIEW_GENERATORS["points"]().generate(capture, geometry, path, config.seed))
    elif any({BACKGROUND, VIEWS} <= parts for parts in tried):
        views[True] = views_for_seeds(config, capture, replace(geometry, background=background))
    return {
        name_of(parts): Addition(
            background=background if BACKGROUND in parts else None,
            points=merge([sparse, *(cloud for name, cloud in clouds.items() if name in parts)]),
            views=views[BACKGROUND in parts] if VIEWS in parts else None,
        )
        for parts in tried
    }


def _table(trials: Trials, default: str, winner: str) -> Table:
    table = Table("tried", "AVGE", "better than the default by", title="Trials on photos left out")
    for name in trials.errors:
        gain, noise = trials.gain(name, default)
        gained = "the default" if name == default else f"{gain:+.1%} ± {noise:.1%}"
        table.add_row(name, f"{trials.mean(name):.4f}", gained, style="bold" if name == winner else "")
    return table
