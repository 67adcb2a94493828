"""Incremental structure from motion by pycolmap (Schönberger & Frahm, CVPR 2016), with settings for few photos."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fvgen.poses.sensor_frame import SENSOR_WIDTH
from fvgen.poses.sparse_model import Lens, SparseModel
from fvgen.poses.two_view import SEED, Pair, VerifiedPair

if TYPE_CHECKING:
    import pycolmap

FOCAL_RANGE = (0.25, 4.0)
"""Focal lengths that are believed, in widths of the sensor: 127 down to 14 degrees of view. Wrong reconstructions often
leave it."""
LARGEST_K1 = 0.4
"""Largest radial distortion; perspective lenses stay below."""


@dataclass(frozen=True)
class MappingCameras:
    """The cameras that one run of the mapper starts from."""

    camera_of: tuple[int, ...]
    """For each photo the camera that took it."""
    focal: tuple[float, ...]
    """For each camera the focal length to start from, in widths of the sensor."""
    known: tuple[bool, ...]
    """For each camera whether that comes from its metadata or its user."""
    heights: tuple[float, ...]
    """For each camera the height of its sensor frame in pixels."""
    fixed: bool = False
    """Whether focal lengths stay as they are."""
    distorted: bool = False
    """Whether a radial distortion is estimated."""

    def build(self, camera: int) -> pycolmap.Camera:
        """One of the cameras for pycolmap, numbered from 1."""
        import pycolmap

        model = "SIMPLE_RADIAL" if self.distorted else "SIMPLE_PINHOLE"
        focal, height = self.focal[camera] * SENSOR_WIDTH, self.heights[camera]
        built = pycolmap.Camera.create_from_model_name(camera + 1, model, focal, SENSOR_WIDTH, round(height))
        built.principal_point_x, built.principal_point_y = SENSOR_WIDTH / 2, height / 2
        built.has_prior_focal_length = self.known[camera] or self.fixed  # else pycolmap takes what two photos suggest
        return built


def run_mapper(
    points: Sequence[np.ndarray],
    pairs: Mapping[Pair, VerifiedPair],
    cameras: MappingCameras,
    initial: Pair | None = None,
) -> SparseModel | None:
    """One reconstruction, or None where the mapper finds no pair to start from, or a lens that cannot be.

    Args:
        points: per photo [N, 2] keypoints in the sensor frame.
        pairs: verified matches.
        cameras: to start from.
        initial: the pair to start with; pycolmap's choice by default.
    """
    import pycolmap

    quiet(pycolmap)
    with tempfile.TemporaryDirectory(prefix="fvgen-poses-") as folder:
        database = pycolmap.Database.open(str(Path(folder) / "matches.db"))
        try:
            _fill(database, points, pairs, cameras)
            manager = pycolmap.ReconstructionManager()
            pycolmap.IncrementalPipeline(_options(cameras, initial), database, manager).run()
        finally:
            database.close()
    models = [manager.get(i) for i in range(manager.size())]
    found = max(models, key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)
    if found is None or found.num_reg_images() < 2:
        return None
    model = _plain(found, points)
    return model if all(map(_is_lens, model.lenses.values())) else None


def _is_lens(lens: Lens) -> bool:
    """Whether a lens can be like that; pycolmap's own limits are looked at now and then only."""
    return FOCAL_RANGE[0] <= lens.focal / SENSOR_WIDTH <= FOCAL_RANGE[1] and abs(lens.k1) <= LARGEST_K1


def quiet(pycolmap: Any) -> None:
    """Keep pycolmap's log to errors; some of its functions switch it on again."""
    pycolmap.logging.minloglevel = pycolmap.logging.ERROR.value


def _options(cameras: MappingCameras, initial: Pair | None) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's defaults suit hundreds of photos: here fewer matches and smaller angles must do."""
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.min_num_matches = 8
    options.multiple_models = False
    options.min_model_size = 2
    options.extract_colors = False
    options.num_threads = 1  # several threads add in another order: other poses each time
    options.random_seed = SEED
    options.min_focal_length_ratio, options.max_focal_length_ratio = FOCAL_RANGE
    options.max_extra_param = LARGEST_K1
    options.ba_refine_focal_length = not cameras.fixed
    options.mapper.random_seed = options.triangulation.random_seed = SEED
    options.mapper.init_min_num_inliers = 30
    options.mapper.init_min_tri_angle = 4
    options.mapper.abs_pose_min_num_inliers = 12
    options.mapper.abs_pose_min_inlier_ratio = 0.1
    options.mapper.abs_pose_refine_focal_length = not cameras.fixed
    options.triangulation.ignore_two_view_tracks = False
    if initial is not None:
        options.init_image_id1, options.init_image_id2 = initial[0] + 1, initial[1] + 1
    return options


def _fill(
    database: pycolmap.Database,
    points: Sequence[np.ndarray],
    pairs: Mapping[Pair, VerifiedPair],
    cameras: MappingCameras,
) -> None:
    """Cameras, photos and verified matches; photo i has the id i + 1."""
    import pycolmap

    rigs = []
    for camera in range(len(cameras.focal)):
        built = cameras.build(camera)
        database.write_camera(built, use_camera_id=True)
        rig = pycolmap.Rig()
        rig.add_ref_sensor(built.sensor_id)
        rigs.append(database.write_rig(rig))
    for photo, xy in enumerate(points):
        camera = cameras.camera_of[photo]
        image = pycolmap.Image(name=f"{photo:04d}", camera_id=camera + 1, image_id=photo + 1)
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame()
        frame.rig_id = rigs[camera]
        frame.add_data_id(image.data_id)
        image.frame_id = database.write_frame(frame)
        database.update_image(image)
        database.write_keypoints(photo + 1, xy.astype(np.float32))
    for (i, j), pair in pairs.items():
        if len(pair.inliers):
            database.write_matches(i + 1, j + 1, pair.inliers)
            database.write_two_view_geometry(i + 1, j + 1, pair.geometry)


def _plain(found: pycolmap.Reconstruction, points: Sequence[np.ndarray]) -> SparseModel:
    """pycolmap's reconstruction as arrays."""
    number = {point: row for row, point in enumerate(sorted(found.point3D_ids()))}
    xyz = np.array([found.point3D(point).xyz for point in number], dtype=np.float64).reshape(-1, 3)
    point_of = {image - 1: np.full(len(points[image - 1]), -1, dtype=np.int64) for image in found.reg_image_ids()}
    for point, row in number.items():
        for element in found.point3D(point).track.elements:
            point_of[element.image_id - 1][element.point2D_idx] = row
    c2w, lenses = {}, {}
    for image_id in found.reg_image_ids():
        image = found.image(image_id)
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().inverse().matrix()
        c2w[image_id - 1] = pose
        params = found.camera(image.camera_id).params
        k1 = float(params[3]) if len(params) > 3 else 0.0
        lenses[image_id - 1] = Lens(float(params[0]), 2 * float(params[2]), k1)  # the principal point is the middle
    return SparseModel(c2w, lenses, xyz, point_of, float(found.compute_mean_reprojection_error()))
