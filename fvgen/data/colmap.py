"""Reader of COLMAP models: ``images/`` beside ``sparse/0/``, as COLMAP and most data sets lay them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fvgen.checks import InputError, complaint, require
from fvgen.data.capture import CaptureFiles, CaptureFrame, check_frame
from fvgen.data.transforms_json import UNDISTORT

_MODELS = ("sparse/0", "colmap/sparse/0", "sparse")
_FOCALS = {"SIMPLE_PINHOLE": 1, "PINHOLE": 2, "SIMPLE_RADIAL": 1, "RADIAL": 1, "OPENCV": 2}
"""How many focal lengths a camera model's parameters begin with; the principal point and k1 k2 p1 p2 follow."""


def find_model(folder: Path) -> Path | None:
    """The COLMAP model of a capture's folder, if it has one."""
    models = [folder / name for name in _MODELS]
    return next((m for m in models if (m / "cameras.bin").is_file() or (m / "cameras.txt").is_file()), None)


def read_colmap(folder: Path) -> CaptureFiles:
    """The photos of a COLMAP model that were given a pose, each checked as far as file headers tell.

    Raises:
        InputError: no model, one that cannot be read, pycolmap is not installed, a lens that is no pinhole with
            OpenCV's distortion, or what `fvgen.data.capture.check_frame` refuses.
    """
    model = find_model(folder)
    require(
        model is not None, "capture", "hold a COLMAP model in sparse/0", folder,
        "Run: colmap automatic_reconstructor --workspace_path CAPTURE --image_path CAPTURE/images",
    )  # fmt: skip
    try:
        import pycolmap
    except ImportError as error:
        text = complaint(str(model), "be read with the package pycolmap", f"'{error}'", "pip install pycolmap")
        raise InputError(text) from error
    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except (ValueError, RuntimeError, OSError, IndexError) as error:
        text = complaint(str(model), "be a whole COLMAP model", f"'{error}'", "Run COLMAP again.")
        raise InputError(text) from error
    images = sorted(reconstruction.images.values(), key=lambda image: image.name)
    frames = [_frame(folder, image, reconstruction.cameras[image.camera_id]) for image in images if image.has_pose]
    require(len(frames) > 0, str(model), "give a photo a pose", "none", "Run COLMAP on photos that overlap more.")
    for frame in frames:
        check_frame(frame)
    return CaptureFiles(folder=folder, frames=tuple(frames), splits={})


def _frame(folder: Path, image, camera) -> CaptureFrame:
    """One image of a reconstruction. COLMAP's axes and pixel centres are ours."""
    # a property up to pycolmap 3.11, a method after it
    pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
    w2c = np.vstack([pose.matrix(), [0, 0, 0, 1]])
    name = camera.model.name
    require(name in _FOCALS, f"camera of {image.name}", f"be one of {sorted(_FOCALS)}", name, UNDISTORT)
    params, focals = [float(value) for value in camera.params], _FOCALS[name]
    fx, fy, (cx, cy) = params[0], params[focals - 1], params[focals : focals + 2]
    k1, k2, p1, p2 = [*params[focals + 2 :], 0.0, 0.0, 0.0, 0.0][:4]
    return CaptureFrame(
        name=f"images/{image.name}",
        photo=folder / "images" / image.name,
        c2w=np.linalg.inv(w2c),
        K=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]),
        size=(camera.width, camera.height),
        distortion=(k1, k2, p1, p2, 0.0),
    )
