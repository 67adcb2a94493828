"""Procedural training clips: exact, repeatable, and spoilt only where they are meant to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fvgen.checks import InputError
from fvgen.geometry.cameras import look_at, project, unproject
from fvgen.procedural import kernels
from fvgen.procedural.clips.clip import ClipLayout, ProceduralScene, procedural_clip, procedural_geometry
from fvgen.procedural.clips.defects import DepthDefects, random_defects, seen_elsewhere
from fvgen.procedural.clips.layouts import LAYOUTS
from fvgen.procedural.clips.photo import exposures
from fvgen.procedural.clips.scene import SceneBuilder, draw, exact_depth
from fvgen.procedural.rooms.scene import Scene, TexturedSolid, render_scene
from fvgen.procedural.solids import Light, Solid
from fvgen.types import Cameras, Capture

SMALL = ClipLayout(frames=4, height=48, width=64)


@pytest.fixture(scope="module")
def clips():
    return [procedural_clip(seed, SMALL) for seed in range(6)]


def one_camera(height=48, width=64) -> Cameras:
    eye, target, up = (
        torch.tensor(v, dtype=torch.float64) for v in ([0.3, -3.0, 0.8], [0.0, 0.0, 0.2], [0.0, 0.0, 1.0])
    )
    K = torch.tensor([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(look_at(eye, target, up)[None], K[None], height, width)


def simple_scene(*solids: Solid):
    b = SceneBuilder(np.random.default_rng(0))
    grey = b.material(kernels.PLAIN, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    b.pictures.append(np.full((4, 4, 3), 0.5, np.float32))
    for solid in solids:
        b.solid(solid.shape, solid.centre, solid.half_size, grey, turn=solid.turn, tilt=solid.tilt)
    return b.build([Light((0, 0, 0), 0)], 1.0, np.zeros(11), (0, 0, 0), 3.0, (-10, 10), (0, 20))


def test_depth_against_the_other_ray_caster():
    """The demo room's caster is written in another way (vectorised, in unit frames): an oracle for all shapes."""
    solids = [
        Solid("room", (0.0, 0.0, 1.0), (4.0, 4.0, 3.0)),
        Solid("box", (-0.7, 0.1, 0.2), (0.3, 0.2, 0.4), turn=0.4, tilt=0.2),
        Solid("ellipsoid", (0.1, 0.3, 0.3), (0.4, 0.2, 0.3), turn=0.3, tilt=-0.4),
        Solid("cylinder", (0.8, 0.0, 0.2), (0.2, 0.3, 0.4), turn=0.2, tilt=0.5),
    ]
    plain = (lambda uv: np.full((len(uv), 3), 0.5),)
    other = Scene(tuple(TexturedSolid(solid, plain) for solid in solids), lights=())
    _, expected = render_scene(other, one_camera(), supersampling=1)
    found = exact_depth(simple_scene(*solids), one_camera())
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-5)


def test_sky_is_infinitely_far_and_lit():
    scene = simple_scene(Solid("box", (0.0, 0.0, -1.0), (9.0, 9.0, 0.5)))
    scene.sky[:9] = 0.7
    depth, rgb = exact_depth(scene, one_camera())[0], draw(scene, one_camera())[0]
    assert bool((depth[0] == 0).all()) and bool((depth[-1] > 0).all())
    torch.testing.assert_close(rgb[:, 0], torch.full_like(rgb[:, 0], 0.7))


def test_the_same_seed_gives_the_same_clip(clips):
    again, depth = procedural_clip(3, SMALL)
    assert torch.equal(again.frames, clips[3][0].frames) and torch.equal(depth, clips[3][1])
    geometry = [procedural_geometry(*clips[3], seed=3).depths for _ in range(2)]
    assert torch.equal(*geometry)
    assert not torch.equal(clips[2][0].frames, clips[3][0].frames)


def test_the_same_clip_on_any_number_of_cores():
    threads = torch.get_num_threads()
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        found.append(procedural_clip(1, ClipLayout(3, 96, 128))[0].frames)  # large enough for torch to share out
    torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_photos_stand_where_the_path_says(clips):
    for clip, _ in clips:
        photo = clip.path.photo
        here = photo >= 0
        assert torch.equal(clip.frames[here], clip.capture.photos[photo[here]])
        assert bool(clip.known[0]) and not bool(clip.known[1:-1].any())
        assert bool((clip.known | ~here).all())  # a photo is always known


def test_frames_agree_with_depth_and_cameras(clips):
    """A frame's pixels are found again in a photo through the photo's exact depth: geometry and colour are one scene.

    The photo's camera is off by up to a pixel on purpose, and surfaces may shine, so most pixels agree, not all.
    """
    shares = []
    for clip, depths in clips:
        world = unproject(depths[:1], clip.capture.cameras[0])[0]
        drawn = int((~clip.known).nonzero()[0])
        uv, z = project(world[depths[0] > 0].float(), clip.path.cameras[drawn])
        inside = (z[0] > 0) & (uv[0] > 0).all(1) & (uv[0] < torch.tensor([64.0, 48.0])).all(1)
        grid = (uv[0][inside] / torch.tensor([64.0, 48.0]) * 2 - 1)[None, None]
        seen = torch.nn.functional.grid_sample(clip.frames[drawn : drawn + 1], grid, align_corners=False)[0, :, 0]
        there = clip.capture.photos[0][:, depths[0] > 0][:, inside]
        shares.append(float(((seen - there).abs().mean(0) < 0.1).float().mean()))
    assert np.mean(shares) > 0.7


def test_exposure_steps_evenly_between_the_photos():
    first, last = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.21, 0.81, 1.0])
    along = exposures((first, last), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(along, torch.stack([first, (first * last).sqrt(), last]))


def test_every_kind_of_scene_can_be_built_and_drawn():
    for share, make in LAYOUTS.values():
        assert share > 0
        for seed in range(3):
            scene = make(SceneBuilder(np.random.default_rng(seed)))
            assert len(scene.shapes) > 3 and bool((scene.halves > 0).all()) and scene.reach > 0
            rgb = draw(scene, one_camera(16, 24))
            assert bool(torch.isfinite(rgb).all()) and float(rgb.min()) >= 0
    assert math.isclose(sum(share for share, _ in LAYOUTS.values()), 1)


def test_dark_and_bright_clips():
    brightness = [float(procedural_clip(seed, ClipLayout(3, 24, 32))[0].frames.mean()) for seed in range(100, 116)]
    assert min(brightness) < 0.25 and max(brightness) > 0.45


CLEAN = DepthDefects(coverage=1.0, needs_two=False, fattening=0, noise=0.0, wrong=0.0, floaters=0.0)


def capture_of(photos, depths):
    cameras = one_camera(*photos.shape[2:])
    c2w = cameras.c2w.float().repeat(len(photos), 1, 1)
    c2w[:, 0, 3] += torch.arange(len(photos)) * 0.2
    valid = torch.ones(len(photos), *photos.shape[2:], dtype=torch.bool)
    return Capture(photos, Cameras(c2w, cameras.K.float().repeat(len(photos), 1, 1), *photos.shape[2:]), valid), depths


def textured(height=48, width=64):
    """Two photos, blank on their left half, noise on the right, of a wall 3 m away with a box 1.5 m away before it."""
    photos = torch.full((2, 3, height, width), 0.5)
    photos[..., width // 2 :] = torch.rand(2, 3, height, width // 2, generator=torch.Generator().manual_seed(0))
    depths = torch.full((2, height, width), 3.0)
    depths[:, 12:36, 40:56] = 1.5
    return capture_of(photos, depths)


def test_depth_without_defects_is_exact_but_for_torn_edges():
    capture, depths = textured()
    geometry = CLEAN.spoil(depths, capture, np.random.default_rng(0))
    known = geometry.depths > 0
    exact = torch.isclose(geometry.depths, depths, rtol=1e-5)
    assert float(known.float().mean()) > 0.8
    assert float(exact[known].float().mean()) > 0.98  # closing small gaps may carry a surface over its edge
    assert bool((geometry.confidences[known] > 0).all()) and not bool((geometry.confidences[~known] > 0).any())
    assert len(geometry.points) == int(known.sum())


def test_what_drops_out_is_what_has_no_texture():
    capture, depths = textured()
    half = DepthDefects(coverage=0.5, needs_two=False, fattening=0, noise=0.0, wrong=0.0, floaters=0.0)
    known = torch.stack([half.spoil(depths, capture, np.random.default_rng(s)).depths > 0 for s in range(5)]).float()
    assert float(known[..., :32].mean()) < 0.35 < 0.6 < float(known[..., 32:].mean())


def test_near_surfaces_grow():
    capture, depths = textured()
    fat = DepthDefects(coverage=1.0, needs_two=False, fattening=3, noise=0.0, wrong=0.0, floaters=0.0)
    spoilt = torch.cat([fat.spoil(depths, capture, np.random.default_rng(s)).depths for s in range(5)])
    near = (spoilt - 1.5).abs() < 0.01
    was_far = (depths == 3.0).repeat(5, 1, 1)
    assert int((near & was_far).sum()) > 100 and not bool(((spoilt - 3).abs() < 0.01)[~was_far].any())


def test_wrong_patches_and_floaters_take_their_share():
    capture, depths = textured()
    depths[:] = 3.0
    for defects, low, high in (
        (DepthDefects(1.0, False, 0, 0.0, wrong=0.1, floaters=0.0), 0.01, 0.11),
        (DepthDefects(1.0, False, 0, 0.0, wrong=0.0, floaters=0.05), 0.0, 0.06),
    ):
        geometry = [defects.spoil(depths, capture, np.random.default_rng(s)).depths for s in range(6)]
        off = torch.stack([((d - 3).abs() > 0.03)[d > 0].float().mean() for d in geometry])
        assert low <= float(off.mean()) <= high


def test_stereo_needs_two_photos(clips):
    for clip, depths in clips:
        seen = seen_elsewhere(depths, clip.capture.cameras)
        assert not bool(seen[depths == 0].any())
        defects = DepthDefects(coverage=1.0, needs_two=True, fattening=0, noise=0.0, wrong=0.0, floaters=0.0)
        known = defects.spoil(depths, clip.capture, np.random.default_rng(0)).depths > 0
        alone = known & ~seen  # closing small gaps may reach a pixel further
        assert float(alone.float().mean()) < 0.03
        assert not bool(known[depths == 0].any()) or float((known & (depths == 0)).float().mean()) < 0.02


def test_random_defects_reach_from_scraps_to_full_cover():
    rng = np.random.default_rng(0)
    coverage = [random_defects(rng).coverage for _ in range(200)]
    assert min(coverage) < 0.2 and max(coverage) > 0.9


def test_plane_sweep_and_exact_geometry(clips):
    clip, depths = clips[0]
    exact = procedural_geometry(clip, depths, 0, "exact")
    assert torch.equal(exact.depths, depths)
    larger, depths = procedural_clip(2, ClipLayout(3, 96, 128))
    swept = procedural_geometry(larger, depths, 2, "plane-sweep")
    both = (swept.depths > 0) & (depths > 0)
    assert float(both.float().mean()) > 0.1
    # estimated from cameras that are off by half a pixel
    assert float(((swept.depths - depths).abs() / depths)[both].median()) < 0.1


def test_scenes_name_their_shards_and_yield_their_seeds():
    scene = ProceduralScene(first=4, count=2, layout=SMALL)
    assert scene.name == "procedural_64x48_000000004"
    names = [clip.name for clip, _ in scene.clips()]
    assert names == ["000000004", "000000005"]


def test_layouts_are_checked():
    with pytest.raises(InputError, match="frames must be at least 3, got 2"):
        ClipLayout(frames=2)
    with pytest.raises(InputError, match="height must be at least 16 pixels, got 8"):
        ClipLayout(height=8)
