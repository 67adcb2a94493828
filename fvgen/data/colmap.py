"""Reader of COLMAP models: ``images/`` beside ``sparse/0/``, as COLMAP and most data sets lay them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fvgen.checks import require
from fvgen.data.capture import CaptureFiles, CaptureFrame, check_frame
from fvgen.data.colmap_files import ColmapCamera, ColmapImage, read_model
from fvgen.data.photos import copies, copy_size
from fvgen.data.transforms_json import UNDISTORT

_PLACES = ("colmap/sparse/0", "sparse/0", "sparse")
"""Where a capture keeps its model: as ns-process-data leaves it, then as COLMAP does."""
_FOCALS = {"SIMPLE_PINHOLE": 1, "PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 1, "OPENCV": 2}
"""How many focal lengths a camera model's parameters begin with; the principal point and k1 k2 p1 p2 follow."""


def find_model(folder: Path) -> Path | None:
    """The COLMAP model of a capture's folder, if it has one."""
    models = [folder / name for name in _PLACES]
    return next((m for m in models if (m / "cameras.bin").is_file() or (m / "cameras.txt").is_file()), None)


def read_colmap(folder: Path) -> CaptureFiles:
    """The photos of a COLMAP model that were given a pose, each checked as far as file headers tell. Where only copies
    of the photos are there (``images_4`` beside ``sparse``), the intrinsics are made to fit them.

    Raises:
        InputError: no model, one that cannot be read, a lens that is no pinhole with OpenCV's distortion, or what
            `fvgen.data.capture.check_frame` refuses.
    """
    model = find_model(folder)
    require(
        model is not None,
        "capture",
        "hold a COLMAP model in sparse/0",
        folder,
        "Run: colmap automatic_reconstructor --workspace_path CAPTURE --image_path CAPTURE/images",
    )
    assert model is not None
    cameras, images = read_model(model)
    require(len(images) > 0, str(model), "give a photo a pose", "none", "Run COLMAP on photos that overlap more.")
    frames = sorted((_frame(folder, image, cameras[image.camera]) for image in images), key=lambda frame: frame.name)
    for frame in frames:
        check_frame(frame)
    return CaptureFiles(folder=folder, frames=tuple(frames), splits={})


def _frame(folder: Path, image: ColmapImage, camera: ColmapCamera) -> CaptureFrame:
    """One image of a model. COLMAP's axes and pixel centres are ours."""
    require(camera.model in _FOCALS, f"camera of {image.name}", f"be one of {sorted(_FOCALS)}", camera.model, UNDISTORT)
    params, focals = camera.params, _FOCALS[camera.model]
    fx, fy, (cx, cy) = params[0], params[focals - 1], params[focals : focals + 2]
    k1, k2, p1, p2 = [*params[focals + 2 :], 0.0, 0.0, 0.0, 0.0][:4]
    place = Path("images", image.name)
    place = next((copy for copy in copies(place) if (folder / copy).is_file()), place)
    size = copy_size(folder / place, place, camera.size)
    scale = np.append(np.array(size) / camera.size, 1.0)
    return CaptureFrame(
        name=f"images/{image.name}",
        photo=folder / place,
        c2w=np.linalg.inv(image.w2c),
        K=scale[:, None] * np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]),
        size=size,
        distortion=(k1, k2, p1, p2, 0.0),
    )
