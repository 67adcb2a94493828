"""The state of a run in a few lines: what it was made of, what it took, and how good it is so far."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from fvgen_ns.run_seconds import SECONDS
from fvgen_ns.splat.comparison import Comparison
from fvgen_ns.viewer.cameras import Kind, SceneCamera

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager
    from fvgen_ns.fvgen_model import FVGenModel

_STEPS = 100
"""Training steps after which the photos are compared again."""
_SHARE_OF_TIME = 0.03
"""Share of the time that comparing takes, unless `_LONGEST_WAIT` asks for more."""
_LONGEST_WAIT = 30.0
"""Seconds: the first comparison, which loads compiled code, says little of what others cost."""


class RunState:
    """Counts, seconds and the PSNR of a run that may be training."""

    def __init__(self, model: FVGenModel, manager: FVGenDataManager, lock: AbstractContextManager) -> None:
        """
        Args:
            model: the splat.
            manager: its images.
            lock: held while the model is used, which is for one picture at a time.
        """
        self._model, self._manager, self._lock = model, manager, lock
        self._started, self._training = time.monotonic(), 0.0
        self._step, self._next_time = -_STEPS, 0.0
        self._psnr = ""

    def start(self) -> None:
        """Training starts now, if it does."""
        self._started = time.monotonic()

    def measure(self, cameras: list[SceneCamera], step: int) -> None:
        """Compare the held-out photos, or where there are none the photos, if that was last done long ago."""
        if step < self._step + _STEPS or time.monotonic() < self._next_time:
            return
        start = time.monotonic()
        kind = Kind.HELD_OUT if any(one.kind is Kind.HELD_OUT for one in cameras) else Kind.PHOTO
        found = []
        for one in cameras:
            if one.kind is kind:
                with self._lock:
                    found.append(Comparison.of(self._model, one.camera, one.batch).psnr)
        name = "Held-out PSNR" if kind is Kind.HELD_OUT else "PSNR of training photos (none are held out)"
        self._psnr = f"{name}: {sum(found) / len(found):.2f} dB at step {step}"
        self._step = step
        self._next_time = time.monotonic() + min((time.monotonic() - start) / _SHARE_OF_TIME, _LONGEST_WAIT)

    def text(self, step: int, is_training: bool) -> str:
        """Markdown, a line each."""
        if is_training:
            self._training = time.monotonic() - self._started
        photos = sum(self._manager.is_photo)
        views = len(self._manager.is_photo) - photos
        settings = self._manager.config.densify
        source = "from a folder" if settings.views is not None else settings.generator
        seconds = dict(SECONDS)
        if self._training:
            seconds["training"] = self._training
        took = ", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())
        lines = [
            f"{photos} photos, {views} generated views ({source})",
            f"Time in this run: {took}" if took else "Finished run: geometry and views from the cache",
            self._psnr,
            f"{self._model.num_points} Gaussians, step {step}",
        ]
        return "  \n".join(line for line in lines if line)
