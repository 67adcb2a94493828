"""One training run of the real plugin in this process: what ``ns-train`` and ``ns-eval`` do, without start-up."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from fvgen.generation.reprojection import POINT_PIXELS
from fvgen.geometry.points import read_ply
from fvgen.geometry.similarity import Similarity
from fvgen.metrics import psnr
from fvgen.rendering.point_renderer import radius_of_pixels, resolve
from fvgen.types import PointCloud
from fvgen_ns.frames import to_fvgen


@dataclass(frozen=True)
class RunResult:
    """What a run measured on the held-out photos."""

    scores: dict[str, float]
    """Means over the held-out photos, under ns-eval's names; and ``psnr_covered`` and ``psnr_uncovered``: of the pixels
    that the dense cloud covers and of the others, over the photos that have such."""
    seconds: float
    """Seconds of the training loop alone."""
    iterations: int
    gaussians: int
    renders: list[Tensor]
    """[H, W, 3] per held-out photo."""
    photos: list[Tensor]
    """[H, W, 3] per held-out photo."""


def run_plugin(
    capture: Path,
    output: Path,
    *,
    method: str,
    seed: int,
    options: dict[str, Any],
    cloud: PointCloud,
    iterations: int | None = None,
) -> RunResult:
    """Train on a capture and evaluate on its held-out photos.

    Args:
        capture: folder that the plugin's dataparser reads.
        output: folder for what Nerfstudio writes.
        method: "fvgen-splat" or "fvgen-splat-cpu".
        seed: of everything random.
        options: dotted path below the trainer's configuration -> value.
        cloud: dense points in the capture's frame, which splits the scores by region; the run itself does not see it.
        iterations: steps, by default the method's.
    """
    config = _config(capture, method, options)
    config.output_dir, config.experiment_name, config.timestamp = output, capture.name, f"seed-{seed}"
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.machine.seed = config.pipeline.datamanager.train_cameras_sampling_seed = seed
    never = 10**9
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_save = never
    if iterations is not None:
        config.max_num_iterations = iterations
    return _run(config, seed, cloud)


def dense_cloud(capture: Path, method: str, options: dict[str, Any]) -> PointCloud:
    """Dense points in the capture's frame, as the options ask for: made, or found in the cache, without training."""
    config = _config(capture, method, options)
    CONSOLE.quiet = True
    manager = config.pipeline.datamanager
    manager.read_inputs()
    manager.setup(device="cpu", test_mode="val")
    (path,) = Path(manager.densify.cache_dir).rglob("dense.ply")
    return read_ply(path, torch.float64)


def _config(capture: Path, method: str, options: dict[str, Any]) -> Any:
    """A method's configuration with some of its options set."""
    config: Any = copy.deepcopy(all_methods[method])
    config.pipeline.datamanager.data = capture
    for path, value in options.items():
        *parents, last = path.split(".")
        owner = config
        for name in parents:
            owner = getattr(owner, name)
        if not hasattr(owner, last):
            raise AttributeError(f"{path} is no option of {method}")
        setattr(owner, last, value)
    return config


def _run(config: Any, seed: int, cloud: PointCloud) -> RunResult:
    for seeded in (random.seed, np.random.seed, torch.manual_seed):
        seeded(seed)
    writer.EVENT_WRITERS.clear()
    writer.EVENT_STORAGE.clear()
    writer.GLOBAL_BUFFER.clear()
    CONSOLE.quiet = True
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    pipeline = trainer.pipeline
    pipeline.eval()
    outputs = pipeline.datamanager.train_dataparser_outputs
    similarity = Similarity(outputs.dataparser_transform.double().numpy()[:3], float(outputs.dataparser_scale))
    cloud = replace(cloud, xyz=similarity.points_to_working(cloud.xyz))
    metrics, renders, photos = [], [], []
    for camera, batch in pipeline.datamanager.fixed_indices_eval_dataloader:
        outputs = pipeline.model.get_outputs_for_camera(camera)
        renders.append(outputs["rgb"].cpu())
        photos.append(batch["image"].cpu().float() / 255)
        scores = pipeline.model.get_image_metrics_and_images(outputs, batch)[0]
        metrics.append({**scores, **_scores_by_region(renders[-1], photos[-1], cloud, camera)})
    names = dict.fromkeys(name for scores in metrics for name in scores)
    mean = {name: float(np.mean([scores[name] for scores in metrics if name in scores])) for name in names}
    return RunResult(mean, seconds, config.max_num_iterations, pipeline.model.num_points, renders, photos)


def _scores_by_region(render: Tensor, photo: Tensor, cloud: PointCloud, camera: Any) -> dict[str, float]:
    """PSNR of two [H, W, 3] images where the cloud covers the photo, and elsewhere; without a region that is empty."""
    height, width = photo.shape[:2]
    view = to_fvgen(camera, height, width)
    drawn = resolve("front").render(cloud, view, radius_of_pixels(POINT_PIXELS, height, width))
    covered = drawn.depth[0] > 0
    first, second = render.permute(2, 0, 1), photo.permute(2, 0, 1)
    regions = {"psnr_covered": covered, "psnr_uncovered": ~covered}
    return {name: float(psnr(first, second, where)) for name, where in regions.items() if where.any()}
