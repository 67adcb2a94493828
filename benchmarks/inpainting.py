"""The plain alternative to every generator: a render's holes filled by OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from fvgen.types import PointRender


def inpaint(render: PointRender) -> Tensor:
    """[F, 3, H, W]: uncovered pixels filled by Telea's method, radius 3."""
    filled = []
    for rgb, depth in zip(render.rgb.cpu(), render.depth.cpu(), strict=True):
        picture = (rgb.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        hole = (depth[0] <= 0).numpy().astype(np.uint8)
        filled.append(torch.from_numpy(cv2.inpaint(picture, hole, 3, cv2.INPAINT_TELEA)))
    return (torch.stack(filled).permute(0, 3, 1, 2).float() / 255).to(render.rgb.device)
