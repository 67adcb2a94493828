"""A training clip, as captures and procedural scenes give it and as encodings take it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fvgen.types import CameraPath, Capture


@dataclass(frozen=True)
class Clip:
    """F true frames and the photos that a generator would start from."""

    name: str
    """Unique within a training set."""
    capture: Capture
    """V photos at the size of the clip."""
    path: CameraPath
    """F cameras through them."""
    frames: Tensor
    """[F, 3, H, W] in [0, 1]: what is really there."""
    known: Tensor
    """[F] bool: frames that the network is given, photos or drawn before."""
