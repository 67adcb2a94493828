"""What a network that corrects warps is given: one function for its training data and for its use."""

from __future__ import annotations

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.conditioning.residual import WarpedClips
from fvgen.generation.view_generator import PointViews
from fvgen.generation.warp import WarpViews
from fvgen.types import CameraPath, Capture, SceneGeometry


def warped_clip(
    capture: Capture,
    geometry: SceneGeometry,
    path: CameraPath,
    frames: Tensor,
    known: Tensor,
    renders: Tensor | None = None,
) -> WarpedClips:
    """One clip (B = 1): render and warp at the frames to be drawn, pixels as they are at the known ones.

    Args:
        capture: V photos at the size of the clip.
        geometry: of the same photos at the same size.
        path: F frames.
        frames: [F, 3, H, W]; what stands at frames that are not known does not matter.
        known: [F] bool: photos, and frames that an earlier window has drawn.
        renders: [F, 3, H, W] as `PointViews` draws them, if that is done; known frames do not matter here either.

    Raises:
        InputError: sizes disagree.
    """
    expected = (len(path), *capture.photos.shape[1:])
    require(frames.shape == expected, "frames", f"have shape {expected}", tuple(frames.shape), "Resize the capture.")
    known = known.to(frames.device)
    given = known[:, None, None, None]
    warp = WarpViews().generate(capture, geometry, path)
    if renders is None:
        renders = PointViews().generate(capture, geometry, path).rgb
    return WarpedClips(
        render=torch.where(given, frames, renders.clamp(0, 1))[None],
        warp=torch.where(given, frames, warp.rgb)[None],
        covered=(given | warp.covered)[None],
        confidence=torch.where(given, 1.0, warp.pixel_confidence)[None],
        photo=known[None],
    )
