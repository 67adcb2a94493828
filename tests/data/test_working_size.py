import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fvgen.checks import InputError
from fvgen.data.capture import NO_DISTORTION, CaptureFrame
from fvgen.data.working_size import load_capture, make_capture, working_size
from fvgen.geometry.cameras import project

POINTS = np.array([[-0.8, -0.5, 2.0], [0.7, -0.4, 2.2], [0.0, 0.1, 1.9], [-0.5, 0.5, 2.1], [0.6, 0.45, 1.8]])
"""In front of a camera at the origin."""


def spot_photo(path, K, size, distortion=NO_DISTORTION):
    """Save a black photo with a soft white spot at each of `POINTS`, placed by OpenCV's own camera model."""
    shifted = K.copy()
    shifted[:2, 2] -= 0.5  # OpenCV's pixel centres are whole numbers
    uv, _ = cv2.projectPoints(POINTS, np.zeros(3), np.zeros(3), shifted, np.array(distortion))
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    spots = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.0**2)) for u, v in uv[:, 0])
    Image.fromarray(np.rint(255 * spots.clip(0, 1)).astype(np.uint8)).save(path)


def spot_frame(path, size=(480, 320), distortion=NO_DISTORTION, **more):
    K = np.array([[400.0, 0, 0.5 * size[0] + 6.3], [0, 395.0, 0.5 * size[1] - 4.1], [0, 0, 1]])
    spot_photo(path, K, size, distortion)
    return CaptureFrame(path.name, path, np.eye(4), K, size, distortion, **more)


def spot_errors(photo, cameras):
    """Pixels between the centre of each spot in a photo [3, H, W] and the projection of its point."""
    uv, _ = project(torch.from_numpy(POINTS).float(), cameras)
    errors = []
    for u, v in uv[0].tolist():
        left, top = max(int(u) - 7, 0), max(int(v) - 7, 0)
        part = photo[0, top : top + 15, left : left + 15]
        y, x = torch.meshgrid(torch.arange(part.shape[0]) + 0.5, torch.arange(part.shape[1]) + 0.5, indexing="ij")
        centre = torch.stack([(part * x).sum(), (part * y).sum()]) / part.sum() + torch.tensor([left, top])
        errors.append(float((centre - torch.tensor([u, v])).norm()))
    return errors


@pytest.mark.parametrize("long_side", [480, 256, 171])
def test_points_stay_where_the_scaled_cameras_see_them(tmp_path, long_side):
    capture = make_capture([spot_frame(tmp_path / "a.png")], long_side)
    assert max(capture.cameras.width, capture.cameras.height) == long_side
    # rounding to 8 bits and the window's edge leave 0.03; a wrong half-pixel convention is off by 0.3 at 171
    assert max(spot_errors(capture.photos[0], capture.cameras[0])) < 0.05


def test_points_stay_when_a_photo_of_another_shape_is_cropped(tmp_path):
    frames = [spot_frame(tmp_path / f"{i}.png") for i in range(2)]
    frames.append(spot_frame(tmp_path / "tall.png", size=(360, 420)))
    capture = make_capture(frames, 240)
    assert capture.photos.shape == (3, 3, 160, 240)
    centre = POINTS[2:3]  # the crop cuts others off
    uv, _ = project(torch.from_numpy(centre).float(), capture.cameras[2])
    u, v = uv[0, 0].tolist()
    part = capture.photos[2, 0, int(v) - 8 : int(v) + 9, int(u) - 8 : int(u) + 9]
    y, x = torch.meshgrid(torch.arange(17) + int(v) - 7.5, torch.arange(17) + int(u) - 7.5, indexing="ij")
    assert abs(float((part * x).sum() / part.sum()) - u) < 0.1
    assert abs(float((part * y).sum() / part.sum()) - v) < 0.1


def test_distortion_is_taken_out_and_the_border_marked(tmp_path):
    frame = spot_frame(tmp_path / "a.png", distortion=(0.15, 0.03, 0.002, -0.003, 0.01))
    capture = make_capture([frame], 480)
    assert max(spot_errors(capture.photos[0], capture.cameras[0])) < 0.1
    assert np.array_equal(capture.cameras.K[0].numpy(), frame.K.astype(np.float32))
    assert not capture.valid[0, 0, 0]
    assert capture.valid[0, 160, 240]
    straight = make_capture([spot_frame(tmp_path / "b.png")], 480)
    assert straight.valid.all()


def test_distorted_depth_moves_with_the_photo(tmp_path):
    K = spot_frame(tmp_path / "a.png").K
    photo, depth = tmp_path / "a.png", tmp_path / "d.npy"
    distortion = (0.15, 0.03, 0.0, 0.0, 0.0)
    spot_photo(photo, K, (480, 320), distortion)
    grey = np.asarray(Image.open(photo)).astype(np.float32)
    np.save(depth, cv2.resize(1 + grey, (240, 160), interpolation=cv2.INTER_AREA))
    capture = make_capture([CaptureFrame("a", photo, np.eye(4), K, (480, 320), distortion, depth)], 480, depth_unit=1.0)
    seen = capture.valid[0] & (capture.depths[0] > 0)
    # nearest neighbour of a map of half the size: a spot's flank is 80 grey levels a pixel, the rest is flat
    assert (capture.depths[0] - 1 - 255 * capture.photos[0, 0])[seen].abs().mean() < 1.0


def test_depth_is_scaled_by_its_unit_and_never_mixed(tmp_path):
    frame = spot_frame(tmp_path / "a.png", depth=tmp_path / "d.png")
    steps = np.where(np.arange(480) < 243, 500, 3000).astype(np.uint16)
    depth = np.tile(steps, (320, 1))
    depth[:40] = 0
    Image.fromarray(depth).save(tmp_path / "d.png")
    capture = make_capture([frame], 200, depth_unit=1e-3)
    values = set(capture.depths.unique().tolist())
    assert values == {0.0, *torch.tensor([0.5, 3.0]).tolist()}
    assert (capture.depths[0, -1] == 0.5).sum() == pytest.approx(243 * 200 / 480, abs=0.5)


def test_depth_values_that_are_no_depth_are_unknown(tmp_path):
    depth = np.full((320, 480), 2.0, np.float32)
    depth[0, :4] = [np.nan, np.inf, -1, 0]
    np.save(tmp_path / "d.npy", depth)
    frames = [spot_frame(tmp_path / "a.png", depth=tmp_path / "d.npy"), spot_frame(tmp_path / "b.png")]
    capture = make_capture(frames, 480, depth_unit=1.0)
    assert capture.depths[0, 0, :5].tolist() == [0, 0, 0, 0, 2]
    assert not capture.depths[1].any()


def test_transparent_and_masked_pixels_are_not_valid(tmp_path):
    rgba = np.full((320, 480, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[:, :240, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    mask = np.full((320, 480), 255, np.uint8)
    mask[:160] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    K = np.array([[400.0, 0, 240], [0, 400, 160], [0, 0, 1]])
    frame = CaptureFrame("a", tmp_path / "a.png", np.eye(4), K, (480, 320), mask=tmp_path / "m.png")
    capture = make_capture([frame], 240)
    expected = torch.zeros(160, 240, dtype=torch.bool)
    expected[80:, 120:] = True
    assert torch.equal(capture.valid[0], expected)
    assert not capture.photos[0][:, ~expected].any()


@given(st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1), st.integers(1, 2000))
def test_the_working_size_keeps_a_shape_and_never_enlarges(sizes, long_side):
    width, height = working_size(sizes, long_side)
    assert 1 <= max(width, height) <= long_side

    def is_scaled(w, h):
        factor = max(width, height) / max(w, h)
        # rounded to whole pixels, and never to none
        return factor <= 1 and abs(max(factor * w, 1) - width) <= 0.501 and abs(max(factor * h, 1) - height) <= 0.501

    assert any(is_scaled(w, h) for w, h in sizes)


def test_the_most_common_shape_wins_over_the_most_common_size():
    assert working_size([(100, 100), (100, 100), (300, 200), (600, 400), (150, 101)], 90) == (90, 60)


def test_splits_are_loaded_by_name(capture):
    train, names = load_capture(capture, long_side=48, split="train")
    test, _ = load_capture(capture, long_side=48, split="test")
    both, _ = load_capture(capture, long_side=48, split="all")
    assert names == [f"images/train_0{i}.png" for i in range(4)]
    assert (len(train.photos), len(test.photos), len(both.photos)) == (4, 2, 6)
    assert train.photos.shape[2:] == (32, 48)


def test_a_split_that_does_not_exist_is_refused(capture):
    with pytest.raises(InputError, match="train, val, test or all"):
        load_capture(capture, long_side=48, split="validation")


def test_an_empty_split_is_refused(capture):
    file = capture / "transforms.json"
    meta = json.loads(file.read_text())
    for split in ("train", "val", "test"):
        meta.pop(f"{split}_filenames")
    file.write_text(json.dumps(meta))
    with pytest.raises(InputError, match="hold a photo"):
        load_capture(capture, long_side=48, split="test")


def test_a_working_size_of_zero_is_refused(capture):
    with pytest.raises(InputError, match="long_side"):
        load_capture(capture, long_side=0)


def test_measured_depth_of_real_captures_agrees_with_their_sparse_points(real_captures):
    folders = [folder for folder in real_captures if (folder / "depth").is_dir()]
    assert folders
    for folder in folders:
        capture, _ = load_capture(folder, long_side=480)
        ratios = []
        for i in range(len(capture.photos)):
            uv, z = project(capture.sparse.xyz, capture.cameras[i])
            u, v = uv[0].floor().long().T
            inside = (z[0] > 0) & (u >= 0) & (v >= 0) & (u < capture.cameras.width) & (v < capture.cameras.height)
            measured = capture.depths[i][v[inside], u[inside]]
            ratios.append((measured / z[0][inside])[measured > 0])
        # the capture's README: median absolute deviation 0.7 %
        assert float(torch.cat(ratios).median()) == pytest.approx(1, abs=0.01)


def test_where_the_lens_polynomial_turns_back_nothing_is_seen(tmp_path):
    """k1 = -1 at a wide angle: beyond a radius of 0.58 the polynomial would repeat the photo, mirrored."""
    size, focal = (120, 90), 60.0
    K = np.array([[focal, 0, 60], [0, focal, 45], [0, 0, 1]])
    Image.new("RGB", size, (200, 200, 200)).save(tmp_path / "a.png")
    frame = CaptureFrame("a.png", tmp_path / "a.png", np.eye(4), K, size, distortion=(-1.0, 0, 0, 0, 0))
    valid = make_capture([frame], 120).valid[0].numpy()
    x, y = (np.arange(120) + 0.5 - 60) / focal, (np.arange(90) + 0.5 - 45) / focal
    radius = np.hypot(x[None], y[:, None])
    assert valid[radius < 0.56].all() and not valid[radius > 0.59].any()
