"""Student and teacher as view generators: which frames come from what, and what may change them."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch
from same_weights import OTHER_MEMORY

from fvgen.checks import InputError
from fvgen.generation import pipeline_fvgen
from fvgen.generation.confidence import IN_HOLES
from fvgen.generation.diffusion_views import DiffusionViews
from fvgen.generation.view_generator import VIEW_GENERATORS
from fvgen.geometry.cameras import project
from fvgen.geometry.trajectory import PATH_STYLES, clips_of, path_between
from fvgen.rendering.point_renderer import resolve
from fvgen.types import CameraPath, Cameras, Capture, GeneratedViews, PointCloud, SceneGeometry


@pytest.fixture(scope="module")
def student(tiny_model) -> DiffusionViews:
    return VIEW_GENERATORS["student"](model=tiny_model("student"), steps=1)


def values(views: GeneratedViews) -> dict[str, torch.Tensor]:
    return {field.name: getattr(views, field.name) for field in fields(views) if field.name != "cameras"}


def between(capture: Capture, frames: int) -> CameraPath:
    return path_between(capture.cameras, range(len(capture.photos)), False, frames)


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_photos_pass_through_and_the_rest_is_drawn(kind, plane, tiny_model):
    capture, geometry = plane
    generator = VIEW_GENERATORS[kind](model=tiny_model(kind), steps=1)
    path = between(capture, 4)
    views = generator.generate(capture, geometry, path, seed=0)
    assert torch.equal(views.rgb[views.is_photo], capture.photos)
    assert torch.equal(views.is_photo, path.photo >= 0)
    assert (views.pixel_confidence[views.is_photo] == 1).all() and (views.view_confidence[views.is_photo] == 1).all()
    drawn = ~views.is_photo
    for name, value in values(views).items():
        assert torch.isfinite(value).all(), name
    assert float(views.rgb.min()) >= 0 and float(views.rgb.max()) <= 1 and (views.depth[drawn] > 0).all()
    assert float(views.pixel_confidence[drawn].min()) >= IN_HOLES - 1e-7
    assert float(views.view_confidence[drawn].max()) <= 1
    render = resolve("teacher").render(geometry.points, path.cameras[drawn])
    assert torch.equal(views.covered[drawn], render.depth > 0)
    assert torch.equal(views.depth[drawn][views.covered[drawn]], render.depth[render.depth > 0])
    assert float((views.rgb[drawn] - render.rgb).abs().mean()) > 0.01  # drawn, not the render passed on


@pytest.mark.parametrize("style", ["between", "viewcrafter"])
@pytest.mark.parametrize("frames", [4, 7])  # one window a clip, and chained ones
def test_a_clip_alone_is_the_clip_of_the_whole_path(style, frames, plane, student):
    capture, geometry = plane
    path = PATH_STYLES[style](capture.cameras, frames)
    path = path.part(torch.arange(min(len(path), 16)))
    whole = student.generate(capture, geometry, path, seed=3)
    for clip in clips_of(path):
        alone = student.generate(capture, geometry, path.part(clip), seed=3)
        for name, value in values(alone).items():
            # small matrix products of the confidence round by where in memory their operands lie
            tolerance = 1e-6 if name.endswith("confidence") else 0
            torch.testing.assert_close(value, values(whole)[name][clip], atol=tolerance, rtol=0)


def test_same_seed_same_pixels_other_seed_other_pixels(plane, student):
    capture, geometry = plane
    path = between(capture, 7).part(torch.arange(7))
    first, again, other = (student.generate(capture, geometry, path, seed).rgb[1:-1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().mean() > 1e-3


def test_clips_get_noise_of_their_own(plane, student):
    """Two clips of equal photos, points and cameras differ by their noise alone."""
    capture, geometry = plane
    twice = [0, 1, 0, 1]
    cameras = capture.cameras[twice]
    doubled = Capture(capture.photos[twice], cameras, capture.valid[twice])
    known = SceneGeometry(cameras, geometry.points, geometry.depths[twice], geometry.confidences[twice])
    one = path_between(capture.cameras, [0, 1], False, 4)
    two = replace(one, ends=one.ends + 2, photo=torch.where(one.photo >= 0, one.photo + 2, one.photo))
    first, second = (student.generate(doubled, known, path).rgb for path in (one, two))
    assert torch.equal(first[0], second[0])
    assert (first[1:-1] - second[1:-1]).abs().mean() > 1e-3


def test_long_clips_are_chained_by_shared_frames(plane, student, monkeypatch):
    """The last frame that a window draws is the first key frame of the next; photos are keys where they stand."""
    capture, geometry = plane
    calls = []
    draw = type(student.pipeline).__call__

    def watch(pipeline, renders, photos, cameras, **options):
        out = draw(pipeline, renders, photos, cameras, **options)
        calls.append((renders[0], photos[0], options["photo_frames"], out.frames[0]))
        return out

    monkeypatch.setattr(type(student.pipeline), "__call__", watch)
    path = between(capture, 8).part(torch.arange(8))
    sized = replace(student, size="working")
    views = sized.generate(capture, geometry, path)
    assert [len(call[0]) for call in calls] == [3, 4, 3]  # 8 frames in windows of at most 4, ends shared
    assert [call[2] for call in calls] == [[0], [0], [0, 2]]
    assert torch.equal(calls[0][1][0], capture.photos[0]) and torch.equal(calls[2][1][1], capture.photos[1])
    for before, after in pairwise(calls):
        assert torch.equal(after[1][0], before[3][-1])
    assert torch.equal(views.rgb[1:5], torch.cat([calls[0][3][1:], calls[1][3][1:3]]))


def test_noise_of_a_frame_does_not_depend_on_the_windows(plane, student, monkeypatch):
    drawn: dict[int, list[torch.Tensor]] = {}
    ours = pipeline_fvgen.ClipNoise

    def recorded(seed, clips, frames, stream=0, first_frame=0):
        for i in range(frames):
            like = torch.zeros(1, 1, 2, 2)
            drawn.setdefault(first_frame + i, []).append(ours(seed, clips, 1, stream, first_frame + i)(like))
        return ours(seed, clips, frames, stream, first_frame)

    monkeypatch.setattr(pipeline_fvgen, "ClipNoise", recorded)
    path = between(plane[0], 9).part(torch.arange(9))
    for window in (9, 5, 3):
        replace(student, window=window).generate(*plane, path, seed=1)
    assert sorted(drawn) == list(range(9))
    for noises in drawn.values():
        assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 2  # of sampler and posterior


@pytest.mark.parametrize(
    ("length", "photos_at", "expected"),
    [
        (4, (0, 3), [(0, 4)]),
        (5, (0, 4), [(0, 3), (2, 5)]),
        (7, (0, 6), [(0, 4), (3, 7)]),
        (1, (), [(0, 1)]),
        (8, (), [(0, 3), (2, 6), (5, 8)]),
    ],
)
def test_windows(student, length, photos_at, expected):
    photo = torch.full((length,), -1)
    photo[list(photos_at)] = 0
    assert [(w.start, w.stop) for w in student.windows(photo)] == expected


def test_no_window_is_spent_on_frames_that_are_there(plane, student):
    """Windows of two frames: the last one would join a drawn frame to a photo."""
    reports = []
    path = between(plane[0], 4).part(torch.arange(4))
    replace(student, window=2).generate(*plane, path, 0, lambda *done: reports.append(done))
    assert [done for done, _, _ in reports] == [1, 2] and {total for _, total, _ in reports} == {2}


@pytest.mark.parametrize("size", ["trained", "working"])
@pytest.mark.parametrize("shape", [(48, 64), (61, 37), (30, 75)])
def test_returned_cameras_belong_to_returned_pixels(size, shape, student):
    """The network is made to return what it was shown: a point's blob must then lie where its camera projects it."""
    height, width = shape
    K = torch.tensor([[40.0, 0, width / 2 + 3], [0, 40.0, height / 2 - 2], [0, 0, 1]]).repeat(2, 1, 1)
    c2w = torch.eye(4).repeat(2, 1, 1)
    c2w[1, 0, 3] = 0.5
    cameras = Cameras(c2w, K, height, width)
    x, y = torch.meshgrid(torch.linspace(-0.2, 0.2, 31), torch.linspace(-0.2, 0.2, 31), indexing="xy")
    xyz = torch.stack([0.4 + x.flatten(), 0.3 + y.flatten(), torch.full((31 * 31,), 4.0)], 1)
    points = PointCloud(xyz, torch.ones_like(xyz), torch.ones(len(xyz)))
    nothing = torch.zeros(2, height, width)
    capture = Capture(torch.zeros(2, 3, height, width), cameras, nothing > -1)
    geometry = SceneGeometry(cameras, points, nothing, nothing)

    def as_shown(pipeline, renders, photos, cameras, **options):
        return type("Shown", (), {"frames": renders})

    echo = replace(student, size=size)
    real = type(echo.pipeline).__call__
    try:
        type(echo.pipeline).__call__ = as_shown
        views = echo.generate(capture, geometry, path_between(cameras, [0, 1], False, 3))
    finally:
        type(echo.pipeline).__call__ = real
    assert (views.cameras.height, views.cameras.width) == views.rgb.shape[-2:]
    u, v = project(xyz, views.cameras[1])[0][0].mean(0)
    weight = views.rgb[1, 0] * (views.rgb[1, 0] > 0.05)
    rows = (weight.sum(1) * (torch.arange(height) + 0.5)).sum() / weight.sum()
    columns = (weight.sum(0) * (torch.arange(width) + 0.5)).sum() / weight.sum()
    assert abs(float(rows - v)) < 0.35 and abs(float(columns - u)) < 0.35  # half a pixel off would be a wrong centre


def test_progress_counts_steps_of_all_windows_and_samples(plane, student):
    reports = []
    generator = replace(student, steps=2, confidence_seeds=1)
    generator.generate(*plane, between(plane[0], 5), 0, lambda *done: reports.append(done))
    total = 3 * 2 * 2 * 2  # clips, windows, steps, samples
    assert [done for done, _, _ in reports] == list(range(1, total + 1)) and {t for _, t, _ in reports} == {total}


def test_samples_that_disagree_lose_confidence(plane, student):
    capture, geometry = plane
    path = between(capture, 4).part(torch.arange(4))
    one = student.generate(capture, geometry, path)
    more = replace(student, confidence_seeds=1).generate(capture, geometry, path)
    assert torch.equal(one.rgb, more.rgb)
    torch.testing.assert_close(one.view_confidence, more.view_confidence, atol=1e-6, rtol=0)
    drawn = ~one.is_photo
    assert (more.pixel_confidence[drawn] <= one.pixel_confidence[drawn] + 1e-6).all()
    assert float((one.pixel_confidence - more.pixel_confidence)[drawn].mean()) > 0.01


def test_a_path_of_another_image_size_is_refused_before_loading(plane):
    capture, geometry = plane
    other = Cameras(capture.cameras.c2w, capture.cameras.K, 20, 30)
    with pytest.raises(InputError, match="image size must be the capture's 64x48"):
        VIEW_GENERATORS["student"]().generate(capture, geometry, path_between(other, range(4), False, 3))


def test_freeing_lets_the_weights_go(plane, tiny_model):
    import weakref

    generator = VIEW_GENERATORS["student"](model=tiny_model("student"), steps=1)
    path = between(plane[0], 4).part(torch.arange(4))
    first = generator.generate(*plane, path).rgb
    unet = weakref.ref(generator.pipeline.unet)
    generator.free()
    assert unet() is None
    torch.testing.assert_close(generator.generate(*plane, path).rgb, first, **OTHER_MEMORY)


def test_low_memory_draws_the_same(plane, student):
    path = between(plane[0], 4).part(torch.arange(4))
    frugal = replace(student, low_memory=True)
    a, b = (g.generate(*plane, path).rgb for g in (student, frugal))
    assert frugal.pipeline.codec_chunk == 1
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_weights_that_do_not_fit_their_settings_are_refused(tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("student"), folder)
    config = folder / "unet/config.json"
    config.write_text(config.read_text().replace('"model_channels": 8', '"model_channels": 16'))
    with pytest.raises(InputError, match="weights that fit its settings"):
        _ = VIEW_GENERATORS["student"](model=folder).pipeline


def test_missing_weights_are_refused(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_model("student"), folder)
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("conv_in")}, file)
    with pytest.raises(InputError, match="weights that fit its settings"):
        _ = VIEW_GENERATORS["student"](model=folder).pipeline
