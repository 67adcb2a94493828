"""One training run of the real plugin in this process: what ``ns-train`` and ``ns-eval`` do, without start-up."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor


@dataclass(frozen=True)
class RunResult:
    """What a run measured on the held-out photos."""

    psnr: float
    ssim: float
    psnr_affine: float
    seconds: float
    """Of the training loop alone."""
    gaussians: int
    renders: list[Tensor]
    """[H, W, 3] per held-out photo."""
    photos: list[Tensor]
    """[H, W, 3] per held-out photo."""


def run_plugin(
    capture: Path, output: Path, *, method: str, seed: int, options: dict[str, Any], iterations: int | None = None
) -> RunResult:
    """Train on a capture and evaluate on its held-out photos.

    Args:
        capture: folder that the plugin's dataparser reads.
        output: folder for what Nerfstudio writes.
        method: "fvgen-splat" or "fvgen-splat-cpu".
        seed: of everything random.
        options: dotted path below the trainer's configuration -> value.
        iterations: steps, by default the method's.
    """
    config: Any = copy.deepcopy(all_methods[method])
    config.pipeline.datamanager.data = capture
    config.output_dir, config.experiment_name, config.timestamp = output, capture.name, f"seed-{seed}"
    config.vis = "tensorboard"
    config.logging.local_writer.enable = False
    config.viewer.quit_on_train_completion = True
    config.machine.seed = config.pipeline.datamanager.train_cameras_sampling_seed = seed
    never = 10**9
    config.steps_per_eval_image = config.steps_per_eval_all_images = config.steps_per_save = never
    if iterations is not None:
        config.max_num_iterations = iterations
    for path, value in options.items():
        *parents, last = path.split(".")
        owner = config
        for name in parents:
            owner = getattr(owner, name)
        if not hasattr(owner, last):
            raise AttributeError(f"{path} is no option of {method}")
        setattr(owner, last, value)
    return _run(config, seed)


def densify_only(capture: Path, cache: Path, method: str) -> None:
    """Make (or find in ``cache``) the views and points of the plugin's default settings, without training."""
    config: Any = copy.deepcopy(all_methods[method])
    config.pipeline.datamanager.data = capture
    config.pipeline.datamanager.densify.cache_dir = cache
    CONSOLE.quiet = True
    config.pipeline.datamanager.setup(device="cpu", test_mode="val")


def _run(config: Any, seed: int) -> RunResult:
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
    metrics, renders, photos = [], [], []
    for camera, batch in pipeline.datamanager.fixed_indices_eval_dataloader:
        outputs = pipeline.model.get_outputs_for_camera(camera)
        metrics.append(pipeline.model.get_image_metrics_and_images(outputs, batch)[0])
        renders.append(outputs["rgb"].cpu())
        photos.append(batch["image"].cpu().float() / 255)
    mean = {key: float(np.mean([m[key] for m in metrics])) for key in metrics[0]}
    return RunResult(
        mean["psnr"], mean["ssim"], mean["psnr_affine"], seconds, pipeline.model.num_points, renders, photos
    )
