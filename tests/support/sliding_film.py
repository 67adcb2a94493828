"""Films of a camera that slides along a picture."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (160, 96)


def scenery(width: int = 600) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (12, width // 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, 96), interpolation=cv2.INTER_CUBIC)


def film(path: Path, offsets: list[float], blurred: set[int] = frozenset()) -> Path:
    """A camera that slides along a picture; 20 frames a second."""
    picture = scenery()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number, offset in enumerate(offsets):
            frame = cv2.getRectSubPix(picture, SIZE, (80 + offset, 48))
            frame = cv2.GaussianBlur(frame, (0, 0), 4) if number in blurred else frame
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path
