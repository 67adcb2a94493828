"""Where the points come from: one protocol, alternatives by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from fvgen.geometry.capture_depth import CaptureDepth, completed
from fvgen.geometry.dust3r import Dust3r
from fvgen.geometry.plane_sweep import PlaneSweep
from fvgen.types import Capture, Progress, SceneGeometry, no_progress


class GeometryProvider(Protocol):
    """Depth and points for a capture. An implementation is a frozen dataclass that is its own config."""

    def reconstruct(self, capture: Capture, progress: Progress = no_progress) -> SceneGeometry:
        """Geometry of the capture at its working size, on its device; an empty cloud when nothing is reliable."""
        ...


@dataclass(frozen=True)
class AutoGeometry:
    """Measured depth where the capture has enough of it, plane sweep for the rest."""

    least_measured: float = 0.05
    """Share of all pixels that must have measured depth for it to be used."""
    capture_depth: CaptureDepth = field(default_factory=CaptureDepth)
    plane_sweep: PlaneSweep = field(default_factory=PlaneSweep)

    def reconstruct(self, capture: Capture, progress: Progress = no_progress) -> SceneGeometry:
        """See `GeometryProvider`."""
        if not self.has_measured(capture):
            return self.plane_sweep.reconstruct(capture, progress)
        measured = self.capture_depth.reconstruct(capture, progress)
        return completed(measured, self.plane_sweep.reconstruct(capture, progress), capture)

    def has_measured(self, capture: Capture) -> bool:
        """Whether the capture's own depth is used."""
        return capture.depths is not None and float((capture.depths > 0).float().mean()) >= self.least_measured


GEOMETRY_PROVIDERS: dict[str, Callable[..., GeometryProvider]] = {
    "auto": AutoGeometry,
    "capture-depth": CaptureDepth,
    "plane-sweep": PlaneSweep,
    "dust3r": Dust3r,
    # All that DUSt3R says of a clip's two photos: what ViewCrafter's teachers were trained on.
    "dust3r-raw": partial(Dust3r, neighbours=1, least_confidence=0.0, filtered=False),
}
"""``GEOMETRY_PROVIDERS[name](**settings)`` is a config, ready to `reconstruct`."""
