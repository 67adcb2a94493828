"""The generators on prepared clips that no network was trained on, beside the frames as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import isnan, nan
from pathlib import Path

import torch
from held_out_photos import mean_psnr, sharpness
from inpainting import inpaint
from torch import Tensor

from fvgen.conditioning.residual import ResidualSpace, WarpedClips, warped_clips_of
from fvgen.data.shards import ShardDataset
from fvgen.devices import synchronize
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.metrics import ssim, st_lpips
from fvgen.models.codec import SpaceToDepth, SpaceToDepthCodec
from fvgen.types import Cameras, PointRender

SCORES = ("psnr", "covered", "holes", "ssim", "st_lpips", "sharpness", "motion", "seconds")


def open_clips(folder: Path, side: int) -> ShardDataset:
    """Prepared clips, in windows of ``side`` x ``side`` pixels.

    Raises:
        InputError: the folder holds none, or they hold no such window or no pixels.
    """
    return ShardDataset(folder, crop=(side, side))


def measure_clips(
    folder: Path, count: int, methods: Sequence[str], networks: Mapping[str, DiffusionViews], side: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Mean `SCORES` of ``count`` clips, evenly over the set, in windows of ``side`` x ``side`` pixels; None where no
    clip has such pixels. With each its standard error over clips, under its name and ``_se``."""
    data = open_clips(folder, side)
    codec = SpaceToDepthCodec(SpaceToDepth(data.meta["codec"]["patch_size"]))
    space = ResidualSpace(**data.meta["residual"])
    rows: dict[str, list[list[float]]] = {method: [] for method in methods}
    for number in range(count):
        batch = data.batch([number * len(data) // count])
        clips = warped_clips_of(batch.conditions.render_latents, space, codec)
        truth = space.decode(batch.latents, clips, codec)[0]
        drawn = ~clips.photo[0]
        for method in methods:
            draw = _draw(method, clips, networks, seed, number)
            start = time.perf_counter()
            frames = draw().clamp(0, 1).to(truth)
            seconds = (time.perf_counter() - start) / int(drawn.sum())
            scores = _scores(frames[drawn], truth[drawn], clips.covered[0, drawn])
            rows[method].append([*scores, _motion(frames, truth), seconds])
    return {method: _summary(torch.tensor(values)) for method, values in rows.items()}


def _summary(values: Tensor) -> dict[str, float | None]:
    """Means and standard errors of `SCORES` [clips, scores], some of them NaN."""
    known = (~values.isnan()).sum(0)
    mean = values.nanmean(0)
    error = ((values - mean).square().nansum(0) / (known - 1) / known).sqrt()  # NaN for a single clip
    named = {
        f"{name}{suffix}": float(value)
        for suffix, figures in (("", mean), ("_se", error))
        for name, value in zip(SCORES, figures, strict=True)
    }
    return {name: None if isnan(value) else value for name, value in named.items()}


def _draw(
    method: str, clips: WarpedClips, networks: Mapping[str, DiffusionViews], seed: int, number: int
) -> Callable[[], Tensor]:
    """Draws the frames [F, 3, H, W] of one clip."""
    if method in networks:
        network = networks[method]
        pipeline = network.pipeline
        keys = clips.photo[0].nonzero()[:, 0].tolist()
        frames, height, width = (clips.render.shape[i] for i in (1, 3, 4))
        anywhere = Cameras(torch.eye(4).repeat(frames, 1, 1), torch.eye(3).repeat(frames, 1, 1), height, width)

        def sample() -> Tensor:
            out = pipeline(
                clips.render,
                clips.render[:, keys],
                anywhere,
                warps=clips,
                photo_frames=keys,
                num_inference_steps=network.steps,
                seed=seed,
                clips=[number],
            ).frames[0]
            synchronize(out.device)
            return out

        return sample
    if method == "inpaint":
        render = PointRender(
            clips.render[0], clips.covered[0].float(), clips.covered[0].float(), clips.covered[0].float()
        )
        return lambda: inpaint(render)
    return lambda: (clips.render if method == "render" else clips.warp)[0]


def _scores(frames: Tensor, truth: Tensor, covered: Tensor) -> list[float]:
    """PSNR whole, covered and in the holes, NaN where no frame has such pixels; SSIM, ST-LPIPS, sharpness."""
    found = [mean_psnr(frames, truth, mask) for mask in (torch.ones_like(covered), covered, ~covered)]
    alike = [torch.stack([score(*pair) for pair in zip(frames, truth, strict=True)]) for score in (ssim, st_lpips)]
    means = (float(values.mean()) for values in alike)
    return [*(nan if value is None else value for value in found), *means, sharpness(frames, truth)]


def _motion(frames: Tensor, truth: Tensor) -> float:
    """Mean squared difference of frames [F, 3, H, W] that follow each other, over that of the real ones."""
    drawn, real = (float(x.diff(dim=0).square().mean()) for x in (frames, truth))
    return drawn / max(real, 1e-12)
