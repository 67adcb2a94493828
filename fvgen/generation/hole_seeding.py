"""Whether Gaussians should also start where the point cloud is empty: measured, by leaving photos out.

Depth that a generator guesses in a hole helps on some captures by decibels and hurts on most, because photos alone
memorise what starts in mid-air. So two short fits are compared on each left-out photo, with and without those seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fvgen.geometry.cameras import unproject
from fvgen.geometry.points import depth_to_points, merge, voxel_thin
from fvgen.metrics import psnr, ssim
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras, Capture, GeneratedViews, PointCloud, Progress, SceneGeometry, no_progress

TRIAL_SIDE = 160
"""Longest side of the photos that trial fits see, in pixels."""
TRIAL_ITERATIONS = 150
MARGIN_DB = 0.3
"""What seeding must win on every photo left out: a wrong yes costs far more than a wrong no."""
MAX_FOLDS = 3
MIN_SEEDS = 50
"""Fewer seeds than this are not worth a trial."""
_SH_DC = 0.28209479177387814
"""The constant spherical harmonic basis function."""
_LEARNING_RATES = {"means": 1.6e-4, "scales": 0.01, "quats": 1e-3, "sh": 5e-3, "opacities": 0.05}
"""Learning rate of each parameter; of the means in units of the scene's scale."""

MakeViews = Callable[[Capture, SceneGeometry], GeneratedViews]
NeighbourDistance = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SeedingDecision:
    """What the trials measured."""

    seed: bool
    gains_db: tuple[float, ...]
    """PSNR with seeds minus without, one per left-out photo; empty when no trial was possible."""


def hole_points(views: GeneratedViews, stride: int = 2) -> PointCloud:
    """Points of the pixels that the cloud left empty, from the generated views' own depth.

    Args:
        views: F frames of which generated ones are used.
        stride: take every n-th pixel in x and y.
    """
    where = (~views.covered & (views.depth > 0) & ~views.is_photo[:, None, None, None])[:, 0]
    grid = torch.zeros_like(where)
    grid[:, ::stride, ::stride] = True
    where &= grid
    xyz = unproject(views.depth[:, 0], views.cameras)[where]
    rgb = views.rgb.permute(0, 2, 3, 1)[where]
    points = PointCloud(xyz, rgb, views.pixel_confidence[:, 0][where])
    if not len(points):
        return points
    footprint = (views.depth[:, 0] / views.cameras.K[:, 0, 0, None, None])[where].median()
    return voxel_thin(points, 2 * stride * float(footprint))


def decide_seeding(
    capture: Capture,
    geometry: SceneGeometry,
    make_views: MakeViews,
    sizes: NeighbourDistance,
    *,
    scene_scale: float,
    seed: int,
    progress: Progress = no_progress,
) -> SeedingDecision:
    """Compare trial fits with and without seeds in the holes, on photos left out of everything.

    Args:
        capture: V photos; fewer than three leave nothing to leave out.
        geometry: of all photos; a fold uses only the points of the photos it keeps.
        make_views: generates views between the photos it is given.
        sizes: initial size of Gaussians from their [P, 3] positions.
        scene_scale: typical distance from the cameras.
        seed: order of photos in the trials.
    """
    size = capture.cameras.size_within(TRIAL_SIDE)
    capture, geometry = capture.resized(*size), geometry.resized(*size)
    count = len(capture)
    folds = _spread(count, MAX_FOLDS) if count >= 3 else []
    gains: list[float] = []
    for done, fold in enumerate(folds):
        progress(done, len(folds), "leaving out photos to decide on seeds in holes")
        kept = [i for i in range(count) if i != fold]
        part, known = _subset(capture, geometry, kept)
        seeds = hole_points(make_views(part, known))
        if len(known.points) and len(seeds) >= MIN_SEEDS:
            gains.append(_gain(capture, part, known.points, seeds, fold, sizes, scene_scale, seed))
            if gains[-1] <= MARGIN_DB:
                break  # one photo that gains nothing decides
    progress(len(folds), max(len(folds), 1), "leaving out photos to decide on seeds in holes")
    return SeedingDecision(bool(gains) and min(gains) > MARGIN_DB, tuple(gains))


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spaced, ends avoided when there are enough others."""
    inner = list(range(1, count - 1)) if count > 3 else list(range(count))
    chosen = torch.linspace(0, len(inner) - 1, min(most, len(inner))).round().long().tolist()
    return [inner[i] for i in dict.fromkeys(chosen)]


def _subset(capture: Capture, geometry: SceneGeometry, kept: list[int]) -> tuple[Capture, SceneGeometry]:
    """The capture and geometry without the other photos, whose points leave the cloud too."""
    part = capture[kept]
    depths, confidences = geometry.depths[kept], geometry.confidences[kept]
    points = depth_to_points(part.photos, part.cameras, depths, confidences)
    return part, replace(geometry, cameras=part.cameras, points=points, depths=depths, confidences=confidences)


def _gain(
    capture: Capture,
    part: Capture,
    cloud: PointCloud,
    seeds: PointCloud,
    fold: int,
    sizes: NeighbourDistance,
    scene_scale: float,
    seed: int,
) -> float:
    """PSNR on the left-out photo ``fold`` of fits to the others, ``part``: with seeds, minus without."""
    footprint = scene_scale / float(capture.cameras.K[:, 0, 0].mean())
    thinned = voxel_thin(cloud, footprint)
    start = [thinned] if capture.sparse is None else [capture.sparse, thinned]
    background = part.photos.mean(dim=(0, 2, 3))  # the best guess where nothing is: seeds must beat it
    scores = []
    for points in (merge(start), merge([*start, seeds])):
        fit = fit_splat(
            points,
            sizes(points.xyz),
            part.photos,
            part.cameras,
            iterations=TRIAL_ITERATIONS,
            scene_scale=scene_scale,
            seed=seed,
        )
        picture = fit.render(capture.cameras[fold], background).clamp(0, 1)
        scores.append(float(psnr(picture, capture.photos[fold])))
    return scores[1] - scores[0]


@dataclass(frozen=True)
class TrialFit:
    """Gaussians of constant colour, before activation."""

    parameters: dict[str, Tensor]

    def render(self, camera: Cameras, background: Tensor) -> Tensor:
        """[3, H, W] picture of a batch of one camera."""
        p = self.parameters
        picture = resolve("auto", p["means"].device).rasterize(
            p["means"], p["quats"], p["scales"].exp(), p["opacities"].sigmoid(), p["sh"], camera, 0, background
        )
        return picture.rgb[0].permute(2, 0, 1)


def fit_splat(
    points: PointCloud,
    sizes: Tensor,
    photos: Tensor,
    cameras: Cameras,
    *,
    iterations: int,
    scene_scale: float,
    seed: int,
) -> TrialFit:
    """Fit Gaussians that start at ``points`` to the photos, one photo a step, without densification.

    Args:
        points: P points to start from.
        sizes: [P] initial standard deviations, scene units.
        photos: [V, 3, H, W].
        cameras: V cameras.
        iterations: steps of Adam.
        scene_scale: typical distance from the cameras; learning rates of the means are in this unit.
        seed: order of the photos, and backgrounds.
    """
    count = len(points)
    generator = torch.Generator().manual_seed(seed)
    start = {
        "means": points.xyz,
        "scales": sizes.log()[:, None].expand(count, 3),
        "quats": torch.tensor([1.0, 0, 0, 0], device=points.xyz.device).expand(count, 4),
        "sh": ((points.rgb - 0.5) / _SH_DC)[:, None],
        "opacities": torch.full((count,), -0.85, device=points.xyz.device),
    }
    fit = TrialFit({name: value.clone().contiguous().requires_grad_() for name, value in start.items()})
    rates = {**_LEARNING_RATES, "means": _LEARNING_RATES["means"] * scene_scale}
    optimizer = torch.optim.Adam(
        [{"params": [fit.parameters[n]], "lr": rates[n]} for n in rates], eps=1e-15, fused=True
    )
    order: list[int] = []
    for _ in range(iterations):
        order = order or torch.randperm(len(photos), generator=generator).tolist()
        view = order.pop()
        # A fixed background would pass for a colour of the scene, and whatever covers it for a gain.
        background = torch.rand(3, generator=generator).to(points.xyz)
        picture, target = fit.render(cameras[view], background), photos[view]
        loss = 0.8 * (picture - target).abs().mean() + 0.2 * (1 - ssim(picture, target))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return TrialFit({name: value.detach() for name, value in fit.parameters.items()})
