from __future__ import annotations

import cv2
import numpy as np
import pytest

from fvgen.checks import InputError
from fvgen.poses.camera_groups import KnownCamera, focal_length_camera, group_cameras, read_camera_line, sensor_points
from fvgen.poses.intake import Photo
from fvgen.poses.sensor_frame import SENSOR_WIDTH


def photo(width: int, height: int, camera: str = "", focal: float | None = None) -> Photo:
    return Photo("a.jpg", None, (width, height), focal, (tuple(sorted((width, height))), camera))  # type: ignore[arg-type]


def test_photos_of_one_size_either_way_round_share_a_camera():
    photos = [photo(400, 300), photo(300, 400), photo(400, 300, "other"), photo(200, 150)]
    cameras = group_cameras(photos, None)
    assert cameras.camera_of == (0, 0, 1, 2)
    assert cameras.heights == (768.0, 768.0, 768.0)
    assert cameras.known == (False, False, False)


def test_metadata_gives_the_first_focal_length_where_it_can_be_true():
    cameras = group_cameras([photo(400, 300, "a", 0.72), photo(400, 300, "b", 40.0)], None)
    assert cameras.focal == (0.72, 1.0)
    assert cameras.known == (True, False)


@pytest.mark.parametrize(
    ("line", "K", "distortion"),
    [
        ("1 PINHOLE 400 300 310 311 201 149", [310, 311, 201, 149], [0, 0, 0, 0]),
        ("SIMPLE_RADIAL 400 300 310 200 150 -0.02", [310, 310, 200, 150], [-0.02, 0, 0, 0]),
        ("1 OPENCV 400 300 310 311 201 149 0.1 -0.2 0.001 -0.002", [310, 311, 201, 149], [0.1, -0.2, 0.001, -0.002]),
        ("2, SIMPLE_PINHOLE, 400, 300, 310, 200, 150", [310, 310, 200, 150], [0, 0, 0, 0]),
    ],
)
def test_a_camera_line_is_read_as_colmap_means_it(line, K, distortion):
    camera = read_camera_line(line)
    assert [camera.K[0, 0], camera.K[1, 1], camera.K[0, 2], camera.K[1, 2]] == K
    assert list(camera.distortion) == distortion


@pytest.mark.parametrize(
    "line",
    [
        "",
        "PINHOLE 400 300 310",
        "OPENCV_FISHEYE 400 300 1 1 1 1 0 0 0 0",
        "PINHOLE a b 1 1 1 1",
        "PINHOLE 400 300 1 1 1 1",
        "PINHOLE 400 300 nan 300 200 150",
    ],
)
def test_other_lines_are_refused(line):
    with pytest.raises(InputError, match="--camera"):
        read_camera_line(line)


def test_a_camera_line_of_an_upright_photo_means_that_photo():
    line = read_camera_line("OPENCV 300 400 310 311 140 203 0.1 -0.05 0.003 -0.004")
    assert (line.width, line.height) == (400, 300)
    back = line.of_photo((300, 400))
    assert np.allclose(back.K, [[310, 0, 140], [0, 311, 203], [0, 0, 1]])
    assert np.allclose(back.distortion, [0.1, -0.05, 0.003, -0.004])


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (800, 600)])
def test_a_known_lens_is_taken_out_of_keypoints(size):
    known = KnownCamera(400, 300, np.array([[310.0, 0, 205], [0, 315, 148], [0, 0, 1]]), (-0.1, 0.02, 0.003, -0.002))
    camera = known.of_photo(size)
    rng = np.random.default_rng(0)
    rays = rng.uniform(-0.3, 0.3, (50, 2))
    bent, _ = cv2.projectPoints(
        np.c_[rays, np.ones(50)], np.zeros(3), np.zeros(3), camera.K, np.array(camera.distortion)
    )
    turned = rays if size[0] > size[1] else np.stack([rays[:, 1], -rays[:, 0]], axis=1)
    ideal = SENSOR_WIDTH * 310 / 400 * turned + [SENSOR_WIDTH / 2, SENSOR_WIDTH * 3 / 8]
    assert np.allclose(sensor_points(photo(*size), bent[:, 0], known), ideal, atol=1e-2)


def test_a_focal_length_is_for_photos_of_one_size():
    assert focal_length_camera(300, [photo(400, 300), photo(300, 400)]).K[0].tolist() == [300, 0, 200]
    with pytest.raises(InputError, match="photos of 2 sizes"):
        focal_length_camera(300, [photo(400, 300), photo(200, 150)])
    with pytest.raises(InputError, match="be 100 to 1600 pixels"):
        focal_length_camera(26, [photo(400, 300)])
