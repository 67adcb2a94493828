"""A photo beside the splat's picture of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

if TYPE_CHECKING:
    from fvgen_ns.fvgen_model import FVGenModel

DIFFERENCE_GAIN = 3
"""Factor that makes the difference bright enough to be seen."""


@contextmanager
def evaluating(model: FVGenModel) -> Iterator[None]:
    """Without gradients, dropout or training's random background; the model trains on afterwards if it did before."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class Comparison:
    """A photo and the splat's picture."""

    photo: Tensor
    """[H, W, 3] in [0, 1]"""
    picture: Tensor
    """[H, W, 3] in [0, 1]"""
    psnr: float
    """In dB."""
    ssim: float

    @staticmethod
    def of(model: FVGenModel, camera: Cameras, batch: dict[str, Any]) -> Comparison:
        """Draw what a camera sees and compare.

        Args:
            model: of a run that may be training; nobody else may use it meanwhile.
            camera: a batch of one.
            batch: Nerfstudio's: ``image`` [H, W, 3 or 4] and, where it has one, ``mask`` [H, W, 1].
        """
        batch = {**batch, "image": batch["image"].to(model.device)}
        with evaluating(model):
            outputs = model.get_outputs(camera.to(model.device))
            metrics, images = model.get_image_metrics_and_images(outputs, batch)
        photo, picture = images["img"].cpu().chunk(2, dim=1)
        return Comparison(photo, picture, metrics["psnr"], metrics["ssim"])

    def strip(self) -> Tensor:
        """[H, 3 W, 3]: photo, picture and their difference, made brighter."""
        difference = (DIFFERENCE_GAIN * (self.photo - self.picture).abs()).clamp(max=1)
        return torch.cat([self.photo, self.picture, difference], dim=1)
