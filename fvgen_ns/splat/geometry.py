"""What a splat in training knows of the scene: its depth in the photos, and where refined poses put these."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fvgen.geometry.points import depth_to_points
from fvgen.types import Cameras, Capture, Progress, SceneGeometry
from fvgen_ns.splat.comparison import evaluating

if TYPE_CHECKING:
    from fvgen_ns.fvgen_model import FVGenModel

_SOLID = 0.5
"""Opacity from which the splat's depth is that of a surface."""


def at_refined_poses(model: FVGenModel, capture: Capture) -> Capture:
    """The photos where the camera optimizer has put them by now."""
    if model.config.camera_optimizer.mode == "off":
        return capture
    with torch.no_grad():
        moves = model.camera_optimizer(torch.arange(len(capture)).to(model.device)).to(capture.cameras.c2w)
    c2w = capture.cameras.c2w.clone()
    c2w[:, :3, :3] = moves[:, :, :3] @ c2w[:, :3, :3]  # as Nerfstudio does: turned where they stand, then moved
    c2w[:, :3, 3] += moves[:, :, 3]
    return replace(capture, cameras=replace(capture.cameras, c2w=c2w))


def splat_geometry(
    model: FVGenModel, capture: Capture, lock: AbstractContextManager, progress: Progress
) -> SceneGeometry:
    """What the splat knows of the surfaces in the photos.

    Args:
        model: in training.
        capture: V photos.
        lock: held while the model draws, one picture at a time.
        progress: of the photos.
    """
    depths, confidences = [], []
    for i in range(len(capture)):
        progress(i, len(capture), "depth of the splat")
        with lock:
            _, alpha, depth = splat_picture(model, capture.cameras[i])
        alpha = alpha * capture.valid[i]
        solid = alpha > _SOLID
        depths.append(torch.where(solid, depth, 0.0))
        confidences.append(torch.where(solid, alpha, 0.0))
    depth, confidence = torch.stack(depths), torch.stack(confidences)
    points = depth_to_points(capture.photos, capture.cameras, depth, confidence)
    return SceneGeometry(capture.cameras, points, depth, confidence)


def splat_picture(model: FVGenModel, camera: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """rgb [3, H, W] before black, opacity [H, W] and depth [H, W] that a batch of one camera sees."""
    with evaluating(model):
        black = torch.zeros(3, device=model.device)
        picture = model.rasterize(model.gauss_params, camera, black)
    return picture.rgb[0].permute(2, 0, 1), picture.alpha[0, ..., 0], picture.depth[0, ..., 0]
