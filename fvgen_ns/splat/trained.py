"""A finished run as plain data, without building Nerfstudio's pipeline: its Gaussians and the photos' cameras."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.splats.gaussians import Gaussians
from fvgen.types import Cameras
from fvgen_ns.capture_split import CaptureSplit
from fvgen_ns.checkpoint import GAUSSIANS, read_checkpoint
from fvgen_ns.fvgen_dataparser import FVGenDataParser
from fvgen_ns.splat.parameters import gaussians_of


@dataclass(frozen=True)
class TrainedSplat:
    """What a run has made, in the run's own frame."""

    gaussians: Gaussians
    is_background: Tensor | None
    """[N] bool, where the model says so."""
    cameras: Cameras | None
    """Cameras of the training photos, at their own sizes' most frequent one; None where the capture is gone."""
    config: Any
    """The trainer's config."""
    folder: Path


def read_trained_splat(run: Path) -> TrainedSplat:
    """The last checkpoint of a run.

    Args:
        run: the run's folder, or its ``config.yml``.

    Raises:
        InputError: there is no run of fvgen-splat, or no checkpoint, or it is damaged.
    """
    path = run / "config.yml" if run.is_dir() else run
    again = "It is the folder that ns-train names, below outputs."
    require(path.is_file() and path.suffix == ".yml", "RUN", "be the folder of a run, with config.yml", run, again)
    try:
        config = yaml.load(path.read_text(), Loader=yaml.Loader)  # as every ns-* command reads it
        model, folder = config.pipeline.model, path.parent / config.relative_model_dir
    except Exception as error:  # yaml builds whatever objects the file names
        cause = " ".join(str(error).split())[:200]
        raise InputError(complaint("RUN", "hold a config.yml of ns-train", f"{path} ({cause})", again)) from error
    checkpoints = sorted(folder.glob("step-*.ckpt"))
    require(bool(checkpoints), "RUN", "hold a checkpoint", f"{folder} without one", "Train it first.")
    pipeline = read_checkpoint(checkpoints[-1])["pipeline"]
    part = {name.removeprefix(GAUSSIANS): value for name, value in pipeline.items() if name.startswith(GAUSSIANS)}
    gaussians = gaussians_of(part, model.sh_degree)
    is_background = pipeline.get("_model.is_background")
    return TrainedSplat(gaussians, is_background, _cameras(config), config, path.parent)


def _cameras(config: Any) -> Cameras | None:
    """The training photos' cameras; those of the first photo's size."""
    manager = config.pipeline.datamanager
    data = Path(manager.data or manager.dataparser.data)
    if not data.exists():
        return None
    manager.dataparser.data = data
    parser = manager.dataparser.setup()
    if isinstance(parser, FVGenDataParser):
        parser.decodes = False  # headers are enough
    frames = CaptureSplit.read(parser, "train").frames
    alike = [frame for frame in frames if frame.size == frames[0].size]
    c2w, K = (torch.from_numpy(np.stack([getattr(frame, name) for frame in alike])).float() for name in ("c2w", "K"))
    width, height = frames[0].size
    return Cameras(c2w, K, height, width)
