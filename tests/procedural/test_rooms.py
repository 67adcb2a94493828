import json

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.data.read_capture import read_capture
from fvgen.data.working_size import load_capture
from fvgen.geometry.cameras import look_at, project, unproject
from fvgen.procedural.rooms.capture import TINY, RoomCapture, room_cameras, write_room_capture
from fvgen.procedural.rooms.room import make_room
from fvgen.procedural.rooms.scene import Scene, TexturedSolid, render_scene
from fvgen.procedural.rooms.textures import Mottled, fractal_noise, value_noise
from fvgen.procedural.solids import Light, Solid
from fvgen.types import Cameras

PLAIN = (Mottled((0.5, 0.6, 0.7), 0, contrast=0.0),)
ROOM = TexturedSolid(Solid("room", (0.0, 0.0, 0.0), (5.0, 5.0, 5.0)), PLAIN)


def cameras_around(count=3, size=40):
    eye = torch.tensor([[0.3, -4.0, 0.2], [3.0, -2.5, 1.5], [-2.0, -3.0, -2.0]], dtype=torch.float64)[:count]
    c2w = look_at(eye, torch.tensor([0.1, 0.0, -0.1]).double(), torch.tensor([0.0, 0.0, 1.0]).double())
    K = torch.tensor([[1.2 * size, 0, 0.5 * size], [0, 1.2 * size, 0.5 * size], [0, 0, 1]]).double()
    return Cameras(c2w, K.repeat(count, 1, 1), size, size)


def marched(solid, cameras, reach=6.0, steps=1500):
    """Depth [C, H, W] of a solid by walking along each ray, from its implicit function alone; inf where missed."""
    parameter = torch.linspace(0, reach, steps, dtype=torch.float64)
    ones = torch.ones(len(cameras), cameras.height, cameras.width, dtype=torch.float64)
    origin = cameras.c2w[:, None, None, :3, 3]
    ray = unproject(ones, cameras) - origin
    rotation = torch.from_numpy(solid.rotation)
    out = torch.full_like(ones, torch.inf)
    for t in parameter.flip(0):
        own = ((origin + t * ray - torch.tensor(solid.centre)) @ rotation) / torch.tensor(solid.half_size)
        inside = {
            "box": own.abs().amax(dim=-1) <= 1,
            "ellipsoid": own.square().sum(dim=-1) <= 1,
            "cylinder": (own[..., :2].square().sum(dim=-1) <= 1) & (own[..., 2].abs() <= 1),
        }[solid.shape]
        out[inside] = t
    return out


@pytest.mark.parametrize("shape", ["box", "ellipsoid", "cylinder"])
def test_depth_of_each_shape_equals_a_march_along_the_rays(shape):
    solid = Solid(shape, (0.2, 0.3, -0.1), (0.9, 0.7, 1.1), turn=0.7, tilt=-0.4)
    cameras = cameras_around()
    _, depth = render_scene(Scene((ROOM, TexturedSolid(solid, PLAIN)), ()), cameras)
    _, empty = render_scene(Scene((ROOM,), ()), cameras)
    expected = marched(solid, cameras).float()
    hit = torch.isfinite(expected)
    assert 0.1 < hit.float().mean() < 0.7
    # a step is 0.004; grazing rays can slip between two steps
    assert ((depth - expected)[hit].abs() < 0.0045).float().mean() > 0.99
    assert (depth[~hit] == empty[~hit]).float().mean() > 0.99


def test_depth_of_a_room_is_where_its_wall_is():
    camera = Cameras(torch.eye(4)[None].double(), cameras_around(1).K, 40, 40)
    _, depth = render_scene(Scene((ROOM,), ()), camera)
    assert torch.allclose(depth, torch.full_like(depth, 5.0))


def test_lambert_shading_of_a_wall_follows_its_formula():
    camera = Cameras(torch.eye(4)[None].double(), cameras_around(1).K, 40, 40)
    dark, _ = render_scene(Scene((ROOM,), (), ambient=0.4), camera)
    lit, _ = render_scene(Scene((ROOM,), (Light((0.0, 0.0, 1.0), 0.5),), ambient=0.4), camera)
    # in the middle of a wall: 4 m from the lamp, which shines straight at it
    assert float(lit[0, 0, 20, 20] / dark[0, 0, 20, 20]) == pytest.approx(1 + 0.5 / (1 + 0.15 * 16) / 0.4, rel=1e-3)


def test_a_surface_has_one_colour_in_all_views():
    scene, cameras = make_room(3), room_cameras(RoomCapture(width=240, height=160, train=3, test=0), 3)
    rgb, depth = render_scene(scene, cameras, supersampling=1)
    points = unproject(depth[1:2].double(), cameras[1]).reshape(-1, 3)
    uv, z = project(points, cameras[0])
    column, row = uv[0].floor().long().T
    inside = (z[0] > 0) & (column >= 0) & (row >= 0) & (column < 240) & (row < 160)
    seen = torch.zeros_like(inside)
    seen[inside] = (depth[0][row[inside], column[inside]] - z[0][inside]).abs() < 0.01
    difference = (rgb[1].reshape(3, -1).T[seen] - rgb[0][:, row[seen], column[seen]].T).abs().mean(dim=1)
    assert seen.float().mean() > 0.4
    # neighbouring pixels of a fine texture differ; the same surface does not on the whole
    assert float(difference.median()) < 0.03


def test_pixels_are_means_of_their_rays():
    scene, cameras = make_room(1), room_cameras(RoomCapture(width=60, height=40, train=2, test=0), 1)
    once, _ = render_scene(scene, Cameras(cameras.c2w, cameras.K * torch.tensor([2.0, 2, 1])[:, None], 80, 120), 1)
    twice, _ = render_scene(scene, cameras, 2)
    assert torch.allclose(torch.nn.functional.avg_pool2d(once, 2), twice, atol=1e-5)


def interpolated(uv, seed):
    """Value noise once more, by NumPy: the table's values at the four whole coordinates around, smoothly blended."""
    table = np.random.default_rng(seed).random((256, 256), dtype=np.float32)
    cell = np.floor(uv)
    x, y = ((uv - cell) ** 2 * (3 - 2 * (uv - cell))).T
    (left, top), (right, bottom) = cell.astype(int).T % 256, (cell.astype(int) + 1).T % 256
    upper = table[top, left] * (1 - x) + table[top, right] * x
    return upper * (1 - y) + (table[bottom, left] * (1 - x) + table[bottom, right] * x) * y


def test_noise_is_continuous_within_its_range_and_seeded():
    uv = np.random.default_rng(0).uniform(-300, 300, (2000, 2))
    noise = value_noise(uv, 1)
    assert noise.min() >= 0
    assert noise.max() <= 1
    assert np.abs(value_noise(uv + 1e-4, 1) - noise).max() < 1e-3
    assert np.array_equal(value_noise(uv, 1), interpolated(uv, 1))
    assert np.array_equal(fractal_noise(uv, 5, 0.3), fractal_noise(uv, 5, 0.3))
    assert not np.array_equal(fractal_noise(uv, 5, 0.3), fractal_noise(uv, 6, 0.3))


def test_the_written_capture_passes_every_check(tiny_room):
    files = read_capture(tiny_room)
    assert files.notes == ()
    assert (len(files.split("train")), len(files.split("test"))) == (4, 2)


def test_written_poses_depth_and_photos_belong_together(tiny_room):
    capture, names = load_capture(tiny_room, long_side=96, split="all")
    # names sort test_* before train_*, cameras come train first
    exact = room_cameras(TINY, 0)
    order = [4, 5, 0, 1, 2, 3]
    assert names[0] == "images/test_04.png"
    assert torch.allclose(capture.cameras.c2w, exact[order].c2w.float(), atol=1e-6)
    _, depth = render_scene(make_room(0), exact[order])
    assert (capture.depths - depth).abs().max() <= 0.00051  # half a millimetre of rounding


def test_sparse_points_lie_on_surfaces_that_two_photos_see(tiny_room):
    capture, _ = load_capture(tiny_room, long_side=96)
    assert 50 < len(capture.sparse) <= TINY.points
    uv, z = project(capture.sparse.xyz, capture.cameras)
    column, row = uv.floor().long().unbind(dim=-1)
    inside = (z > 0) & (column >= 0) & (row >= 0) & (column < 96) & (row < 64)
    index = (row.clamp(0, 63) * 96 + column.clamp(0, 95)).clamp_min(0)
    surface = capture.depths.flatten(1).gather(1, index)
    seen = inside & ((z - surface).abs() < 0.05 * surface)
    assert (seen.sum(dim=0) >= 2).float().mean() > 0.9


def test_the_same_seed_writes_the_same_files_and_another_does_not(tiny_room, tmp_path):
    layout = RoomCapture(width=48, height=32, train=2, test=1, points=40, supersampling=1)
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_room_capture(tmp_path / name, seed, layout)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 5
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert (tmp_path / "a" / files[0]).read_bytes() != (tmp_path / "c" / files[0]).read_bytes()


def test_a_folder_has_a_description_only_when_it_is_whole(tmp_path):
    class Stopped(Exception):
        pass

    def stop(done, total, what):
        if done == 2:
            raise Stopped

    layout = RoomCapture(width=48, height=32, train=2, test=1, points=40, supersampling=1)
    with pytest.raises(Stopped):
        write_room_capture(tmp_path, 0, layout, progress=stop)
    assert not (tmp_path / "transforms.json").exists()
    write_room_capture(tmp_path, 0, layout)
    assert len(json.loads((tmp_path / "transforms.json").read_text())["frames"]) == 3
    assert not list(tmp_path.rglob(".*"))


def test_one_training_photo_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 2 photos"):
        write_room_capture(tmp_path / "room", 0, RoomCapture(train=1))
    assert not (tmp_path / "room").exists()
