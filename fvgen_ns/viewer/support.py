"""The viewer's outputs ``support`` and ``confidence``, and its switch that leaves real photos' Gaussians only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from nerfstudio.models.splatfacto import RGB2SH
from nerfstudio.utils.colormaps import apply_float_colormap
from torch import Tensor
from torch.nn import functional

from fvgen.rendering.splat_rasterizer import SplatRender
from fvgen.types import Cameras
from fvgen_ns.frames import to_fvgen
from fvgen_ns.splat.comparison import evaluating
from fvgen_ns.splat.support import (
    LONGEST_SIDE,
    MOST_VIEWS,
    NOTHING_GREY,
    Support,
    Witness,
    measure_support,
)
from fvgen_ns.viewer.cameras import Kind, SceneCamera

if TYPE_CHECKING:
    from fvgen_ns.fvgen_model import FVGenModel

SUPPORT, CONFIDENCE = "support", "confidence"
"""Names of the outputs."""
_STEPS = 50
"""Training steps after which the support is measured again while it is looked at."""
_SHARE_OF_TIME = 0.05
"""Most of the time that measuring may take."""


class ViewerSupport:
    """Measured in the background while somebody looks at it, and drawn as it was then: a splat in training changes its
    number of Gaussians."""

    def __init__(self, model: FVGenModel, is_shown: Callable[[str], bool]) -> None:
        """
        Args:
            model: whose pictures it adds to.
            is_shown: whether a user looks at the output of this name.
        """
        self._model, self._is_shown = model, is_shown
        self.real_only = False
        """Whether pictures show only what a photo saw."""
        self._measured: Support | None = None
        self._step, self._next_time = -_STEPS, 0.0

    def is_due(self, step: int) -> bool:
        """Whether it is looked at, and was never measured or long ago."""
        looked_at = self.real_only or self._is_shown(SUPPORT) or self._is_shown(CONFIDENCE)
        return looked_at and step >= self._step + _STEPS and time.monotonic() >= self._next_time

    def measure(self, cameras: list[SceneCamera], lock: AbstractContextManager, step: int) -> None:
        """Measure the splat as it is now.

        Args:
            cameras: of the run, its photos and generated views.
            lock: held while the model is used, which is for one picture at a time.
            step: of the training.
        """
        start = time.monotonic()
        asked = [witness.to(self._model.device) for witness in witnesses(cameras)]
        with lock:
            gaussians = {name: value.detach().clone() for name, value in self._model.gauss_params.items()}

        def render(part: Mapping[str, Tensor], camera: Cameras) -> SplatRender:
            with lock, evaluating(self._model):
                return self._model.rasterize(part, camera, torch.zeros(3, device=self._model.device))

        self._measured = measure_support(gaussians, asked, render)
        self._step = step
        self._next_time = time.monotonic() + (time.monotonic() - start) / _SHARE_OF_TIME

    def shown_gaussians(self, current: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """What a picture is drawn of."""
        measured = self._measured
        return measured.of_photos() if self.real_only and measured is not None else current

    def outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """The two outputs [H, W, 3]. One that nobody looks at is grey and costs nothing: its name must be there."""
        grey = torch.tensor(NOTHING_GREY, device=self._model.device)
        blank, measured = grey.expand(camera.height, camera.width, 3), self._measured
        if measured is None:
            return {SUPPORT: blank, CONFIDENCE: blank}

        def draw(colours: Tensor, background: Tensor) -> Tensor:
            return self._model.rasterize(measured.gaussians, camera, background, RGB2SH(colours)[:, None]).rgb[0]

        support = draw(measured.colours, grey).clamp(0, 1) if self._is_shown(SUPPORT) else blank
        confidence = blank
        if self._is_shown(CONFIDENCE):
            drawn = draw(measured.confidence[:, None].expand(-1, 3), torch.zeros_like(grey))
            confidence = apply_float_colormap(drawn[..., :1].clamp(0, 1), "viridis")
        return {SUPPORT: support, CONFIDENCE: confidence}


def witnesses(cameras: list[SceneCamera]) -> list[Witness]:
    """All photos, and at most `MOST_VIEWS` of the generated views, small."""
    photos = [one for one in cameras if one.kind is Kind.PHOTO]
    views = [one for one in cameras if one.kind is Kind.GENERATED]
    chosen = torch.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).round().long().tolist()
    return [_witness(one) for one in photos + [views[i] for i in chosen]]


def _witness(one: SceneCamera) -> Witness:
    height, width = one.batch["image"].shape[:2]
    camera = to_fvgen(one.camera, height, width)
    size = camera.size_within(LONGEST_SIDE)
    shown = one.batch.get("confidence", one.batch.get("mask"))
    confidence = torch.ones(height, width) if shown is None else shown[..., 0].float().cpu()
    small = functional.interpolate(confidence[None, None], size, mode="nearest-exact")[0, 0]
    return Witness(camera.resized(*size), small, one.kind is Kind.PHOTO)
