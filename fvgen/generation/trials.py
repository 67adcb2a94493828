"""Trials: what is worth adding to a capture's photos, measured by leaving photos out.

Dense points, a background, generated views, seeds in holes: each helps on some captures and hurts on others. So
photos are left out in turn, a quick small splat is fitted to the others with what each candidate adds, and its picture
of the left-out photo is scored by AVGE. What is preferred stays unless another wins by more than its noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fvgen.devices import is_gpu
from fvgen.generation.view_weights import ViewWeights
from fvgen.geometry.points import depth_to_points, merge
from fvgen.metrics import avge, psnr, ssim, st_lpips
from fvgen.numba_compile import for_each
from fvgen.rendering.gaussian_sizes import neighbour_distance
from fvgen.rendering.photometric_loss import photometric_loss
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras, Capture, GeneratedViews, PointCloud, Progress, SceneGeometry, no_progress

SIDE = 128
"""Longest side of the pictures of a trial, in pixels."""
ITERATIONS = 100
"""Steps of a fit on photos; those on views come on top, because so few cannot spare any, as a long training can."""
MOST_PHOTOS = 5
"""Photos that are left out, one after another."""
FEWEST_PHOTOS = 3
"""With fewer, what is left shows nothing of how photos work together."""
_NOISE = 2.0
"""Standard errors by which a candidate must win against those preferred."""
_LEAST_GAIN = 0.02
"""Share of the error by which it must win at least: less than that, another seed does."""
_VIEW_SHARE = 0.2
"""Share of the steps that see a generated view."""
_WEIGHTS = ViewWeights()
_SSIM_SHARE = 0.2
_OPACITY, _BACKGROUND_OPACITY = 0.3, 0.1
"""What Gaussians start with."""
_SH_DC = 0.28209479177387814
"""The constant spherical harmonic basis function."""
_LEARNING_RATES = {"means": 1.6e-4, "scales": 0.01, "quats": 1e-3, "sh": 5e-3, "opacities": 0.05}
"""Learning rate of each parameter; of the means in units of the scene's scale."""


@dataclass(frozen=True)
class Addition:
    """What a fit has beside the photos."""

    points: PointCloud
    """P points to start from."""
    background: PointCloud | None = None
    """Points that start faint: their depth is a guess."""
    views: GeneratedViews | None = None
    """Frames to train on; photos among them are passed over."""


MakeAdditions = Callable[[Capture, SceneGeometry], Mapping[str, Addition]]
"""Makes the addition of each candidate, by name, from photos at the size of a trial and their geometry."""


@dataclass(frozen=True)
class Trials:
    """What was measured."""

    errors: Mapping[str, tuple[float, ...]]
    """Candidate -> AVGE on each photo left out; empty where no trial was possible."""

    def mean(self, name: str) -> float:
        """Mean of a candidate's errors."""
        return sum(self.errors[name]) / len(self.errors[name])

    def gain(self, name: str, over: str) -> tuple[float, float]:
        """Share by which the error of one candidate is smaller than another's, and the standard error of that: mean
        logarithm of the ratio over the photos left out."""
        first, second = (torch.tensor(self.errors[which]).clamp_min(1e-6) for which in (name, over))
        ratios = (second / first).log()
        return float(ratios.mean()), float(ratios.std() / math.sqrt(len(ratios)))

    def winner(self) -> str:
        """The first candidate, unless a later one is better by more than noise than the best before it: their order is
        the order of preference."""
        best, *others = self.errors
        for name in others:
            gain, noise = self.gain(name, best)
            if gain > max(_NOISE * noise, _LEAST_GAIN):
                best = name
        return best


def run_trials(
    capture: Capture,
    geometry: SceneGeometry,
    make: MakeAdditions,
    *,
    scene_scale: float,
    seed: int,
    progress: Progress = no_progress,
) -> Trials:
    """Try candidates on photos left out of everything that the candidates are made from.

    Args:
        capture: V photos; with fewer than `FEWEST_PHOTOS` nothing is tried.
        geometry: of all photos; a trial uses only the points of the photos it keeps.
        make: the candidates, in order of preference; it is given the photos that are not left out.
        scene_scale: typical distance from the cameras.
        seed: order of photos in the fits, the same for all candidates.
    """
    size = capture.cameras.size_within(SIDE)
    capture, geometry = capture.resized(*size), geometry.resized(*size)
    left_out = _spread(len(capture), MOST_PHOTOS) if len(capture) >= FEWEST_PHOTOS else []
    errors: dict[str, list[float]] = {}
    for done, photo in enumerate(left_out):
        progress(done, len(left_out), "trials, photos left out")
        part, known = _without(capture, geometry, photo)
        tried = _errors(make(part, known), part, capture[photo], scene_scale=scene_scale, seed=seed)
        for name, error in tried.items():
            errors.setdefault(name, []).append(error)
    progress(len(left_out), len(left_out), "trials, photos left out")
    return Trials({name: tuple(values) for name, values in errors.items()})


def _errors(
    additions: Mapping[str, Addition], part: Capture, left_out: Capture, *, scene_scale: float, seed: int
) -> dict[str, float]:
    """AVGE of each candidate on the one photo of ``left_out``, fitted to the photos of ``part``.

    On a CPU several are fitted at once: the steps of one fit are too small to be shared by threads.
    """
    beyond = part.photos.mean(dim=(0, 2, 3))  # the best guess where nothing is
    names = list(additions)
    found: dict[str, float] = {}

    def fit(i: int) -> None:
        splat = fit_splat(additions[names[i]], part, scene_scale=scene_scale, seed=seed)
        found[names[i]] = _error(splat.render(left_out.cameras, beyond), left_out)

    if is_gpu(part.photos.device):
        for i in range(len(names)):
            fit(i)
    else:
        for_each(fit, len(names))
    return {name: found[name] for name in names}


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spaced."""
    return torch.linspace(0, count - 1, min(most, count)).round().long().tolist()


def _without(capture: Capture, geometry: SceneGeometry, photo: int) -> tuple[Capture, SceneGeometry]:
    """The capture and geometry without a photo, whose points leave the cloud too."""
    kept = [i for i in range(len(capture)) if i != photo]
    part = capture[kept]
    depths, confidences = geometry.depths[kept], geometry.confidences[kept]
    points = depth_to_points(part.photos, part.cameras, depths, confidences)
    return part, replace(geometry, cameras=part.cameras, points=points, depths=depths, confidences=confidences)


def _error(picture: Tensor, truth: Capture) -> float:
    """AVGE of a picture [3, H, W] against the one photo of ``truth``, where that has pixels."""
    photo, where = truth.photos[0], truth.valid[:1]
    picture = torch.where(where, picture.clamp(0, 1), photo)
    with torch.no_grad():
        return avge(
            float(psnr(picture, photo, where)), float(ssim(picture, photo, where)), float(st_lpips(picture, photo))
        )


@dataclass(frozen=True)
class QuickFit:
    """Gaussians of constant colour, before activation."""

    parameters: dict[str, Tensor]

    def render(self, camera: Cameras, background: Tensor) -> Tensor:
        """[3, H, W] picture of a batch of one camera."""
        p = self.parameters
        picture = resolve("auto", p["means"].device).rasterize(
            p["means"], p["quats"], p["scales"].exp(), p["opacities"].sigmoid(), p["sh"], camera, 0, background
        )
        return picture.rgb[0].permute(2, 0, 1)


def fit_splat(addition: Addition, capture: Capture, *, scene_scale: float, seed: int) -> QuickFit:
    """Fit Gaussians to the photos, one photo or generated view a step, without densification.

    Args:
        addition: where they start, and views.
        capture: V photos.
        scene_scale: typical distance from the cameras; learning rates of the means are in this unit.
        seed: order of the photos, and backgrounds.
    """
    generator = torch.Generator().manual_seed(seed)
    fit = _start(addition)
    rates = {**_LEARNING_RATES, "means": _LEARNING_RATES["means"] * scene_scale}
    groups = [{"params": [fit.parameters[name]], "lr": rate} for name, rate in rates.items()]
    optimizer = torch.optim.Adam(groups, eps=1e-15, fused=True)
    photo_weights = capture.valid.to(capture.photos)
    views = addition.views
    drawn = [] if views is None else (~views.is_photo).nonzero()[:, 0].tolist()
    order: list[int] = []
    for _ in range(round(ITERATIONS / (1 - _VIEW_SHARE)) if drawn else ITERATIONS):
        # A fixed background would pass for a colour of the scene, and whatever covers it for a gain.
        background = torch.rand(3, generator=generator).to(capture.photos)
        chance, pick = torch.rand(2, generator=generator).tolist()
        if views is not None and drawn and chance < _VIEW_SHARE:
            at = drawn[int(pick * len(drawn))]
            target, camera = views.rgb[at], views.cameras[at]
            weight = _WEIGHTS.of(views.covered[at, 0], views.pixel_confidence[at, 0] * views.view_confidence[at])
        else:
            order = order or torch.randperm(len(capture), generator=generator).tolist()
            at = order.pop()
            target, camera, weight = capture.photos[at], capture.cameras[at], photo_weights[at]
        picture = fit.render(camera, background).permute(1, 2, 0)
        loss = photometric_loss(picture, target.permute(1, 2, 0), weight[..., None], _SSIM_SHARE)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return QuickFit({name: value.detach() for name, value in fit.parameters.items()})


def _start(addition: Addition) -> QuickFit:
    """The Gaussians that a fit starts from, of sizes by local density; the background's apart."""
    parts = [(addition.points, _OPACITY)]
    parts += [] if addition.background is None else [(addition.background, _BACKGROUND_OPACITY)]
    points = merge([part for part, _ in parts])
    count, xyz = len(points), points.xyz
    sizes = torch.cat([neighbour_distance(part.xyz) for part, _ in parts]).to(xyz)
    start = {
        "means": xyz,
        "scales": sizes.log()[:, None].expand(count, 3),
        "quats": xyz.new_tensor([1.0, 0, 0, 0]).expand(count, 4),
        "sh": ((points.rgb - 0.5) / _SH_DC)[:, None],
        "opacities": torch.cat([part.xyz.new_full((len(part),), opacity) for part, opacity in parts]).logit(),
    }
    return QuickFit({name: value.clone().contiguous().requires_grad_() for name, value in start.items()})
