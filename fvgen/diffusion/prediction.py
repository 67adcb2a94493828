"""What a denoising network predicts."""

from __future__ import annotations

from typing import Literal

OutputKind = Literal["v", "x0", "epsilon"]
"""See `fvgen.diffusion.schedule`. Apart from it, so that command lines name the choices without loading diffusers."""
