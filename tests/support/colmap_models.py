"""COLMAP models of a capture's frames, written by COLMAP itself (pycolmap), and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pycolmap

from fvgen.data.capture import CaptureFrame
from fvgen.data.points_in_photos import points_in_photo
from fvgen.types import PointCloud

Lens = tuple[str, Sequence[float]]
"""Name of a camera model and what follows the principal point in its parameters."""


def write_colmap(
    model: Path,
    frames: Sequence[CaptureFrame],
    points: PointCloud | None = None,
    *,
    text: bool = False,
    names: Sequence[str] | None = None,
    lenses: Sequence[Lens] = (("PINHOLE", ()),),
    observed: bool = False,
) -> Path:
    """A model with its rigs and frames files.

    Args:
        model: folder to make.
        frames: photos with poses.
        points: points in space.
        text: whether files are text.
        names: of the photos, relative to the folder of photos; by default the files' names.
        lenses: one camera each; the frames use them in turn, the last for all that are left.
        observed: whether photos know which points they show.
    """
    reconstruction = pycolmap.Reconstruction()
    K, (width, height) = frames[0].K, frames[0].size
    for number, (lens, more) in enumerate(lenses, start=1):
        camera = pycolmap.Camera.create_from_model_name(number, lens, float(K[0, 0]), width, height)
        focals = len(camera.focal_length_idxs())
        camera.params = [*[K[0, 0], K[1, 1]][:focals], K[0, 2], K[1, 2], *more]
        reconstruction.add_camera_with_trivial_rig(camera)
    tracks: dict[int, list[pycolmap.TrackElement]] = {}
    for i, frame in enumerate(frames):
        image = pycolmap.Image(
            name=frame.photo.name if names is None else names[i], camera_id=min(i + 1, len(lenses)), image_id=i + 1
        )
        if observed and points is not None:
            index, places, _ = points_in_photo(frame, points.xyz.numpy())
            image.points2D = [pycolmap.Point2D(place * frame.size) for place in places]
            for at, point in enumerate(index.tolist()):
                tracks.setdefault(point, []).append(pycolmap.TrackElement(i + 1, at))
        w2c = np.linalg.inv(frame.c2w)
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(w2c[:3]))
    for i in range(0 if points is None else len(points)):
        colour = (255 * points.rgb[i].numpy()).round().astype(np.uint8)
        reconstruction.add_point3D(points.xyz[i].double().numpy(), pycolmap.Track(tracks.get(i, [])), colour)
    model.mkdir(parents=True, exist_ok=True)
    (reconstruction.write_text if text else reconstruction.write_binary)(str(model))
    return model


def same_cameras(found: Sequence[CaptureFrame], expected: Sequence[CaptureFrame], tolerance: float = 1e-9) -> None:
    """Assert the same photos, in the same order, and poses within ``tolerance``."""
    assert [frame.photo.name for frame in found] == [frame.photo.name for frame in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.c2w, b.c2w, atol=tolerance)
        np.testing.assert_allclose(a.K, b.K, rtol=1e-12)
        assert a.size == b.size and a.photo.is_file()
