"""A mask of the tiny room's photos, as an image, as files beside the photos, and as a colour that tells of it."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = (96, 64)
HIDDEN = np.s_[20:44, 30:70]
SHOWN = np.ones(SIZE[::-1], bool)
SHOWN[HIDDEN] = False
L255 = Image.fromarray(255 * SHOWN.astype(np.uint8))


def save_masks(capture, place, names=None):
    """A mask for each photo, its hidden part painted magenta; ``place(name)`` says where it lies."""
    for photo in sorted((capture / "images").rglob("*.png")):
        if names is not None and photo.name not in names:
            continue
        pixels = np.array(Image.open(photo).convert("RGB"))
        pixels[HIDDEN] = (255, 0, 255)
        Image.fromarray(pixels).save(photo)
        path = capture / place(photo.relative_to(capture / "images"))
        path.parent.mkdir(parents=True, exist_ok=True)
        L255.save(path)


def magenta(rgb):
    """Whether anything in [..., 3, H, W] has the colour of what is hidden, which the room has nowhere."""
    red, green, blue = rgb.unbind(dim=-3)
    return bool(((red - green > 0.6) & (blue - green > 0.6)).any())
