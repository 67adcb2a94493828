"""Point renderers against a per-pixel loop, and their behaviour at the edges."""

from __future__ import annotations

import pytest
import torch

from fvgen.checks import InputError
from fvgen.geometry.cameras import look_at, project
from fvgen.rendering import point_renderer_torch
from fvgen.rendering.point_renderer import POINT_RENDERERS, pixel_radius, radius_of_pixels, resolve
from fvgen.types import Cameras, PointCloud

TORCH_RENDERERS = ["teacher", "front"]


def scene(points: int = 400, height: int = 24, width: int = 40) -> tuple[PointCloud, Cameras]:
    generator = torch.Generator().manual_seed(0)
    xyz = torch.randn(points, 3, generator=generator)
    cloud = PointCloud(xyz, torch.rand(points, 3, generator=generator), torch.rand(points, generator=generator))
    eye = torch.tensor([[0.0, 0, -5], [3, -1, -4]])
    K = torch.tensor([[30.0, 0, 19], [0, 34, 13], [0, 0, 1]]).repeat(2, 1, 1)
    return cloud, Cameras(look_at(eye, torch.zeros(3), torch.tensor([0.0, -1, 0])), K, height, width)


def teacher_oracle(points: PointCloud, camera: Cameras, radius: float) -> torch.Tensor:
    """[3, H, W] pixel by pixel, straight from the definition, in float64."""
    (uv,), (z,) = project(points.xyz.double(), camera)
    reach = pixel_radius(radius, camera.height, camera.width)
    out = torch.zeros(3, camera.height, camera.width, dtype=torch.float64)
    for y in range(camera.height):
        for x in range(camera.width):
            d2 = ((uv - torch.tensor([x + 0.5, y + 0.5])) ** 2).sum(1)
            near = ((d2 < reach**2) & (z > 0)).nonzero()[:, 0]
            left = 1.0
            for i in near[z[near].argsort()][:10]:
                alpha = 1 - float(d2[i]) / reach**2
                out[:, y, x] += left * alpha * points.rgb[i]
                left *= 1 - alpha
    return out


@pytest.mark.parametrize("radius", [0.05, 0.3])
def test_teacher_compositing_matches_the_definition(radius):
    points, cameras = scene()
    cameras = cameras.to(torch.float64)  # else the poses' float32 inverse shows in small discs
    rgb = resolve("teacher").render(points, cameras, radius).rgb
    expected = torch.stack([teacher_oracle(points, cameras[i], radius) for i in range(2)])
    torch.testing.assert_close(rgb.double(), expected, atol=1e-5, rtol=0)  # float32 blending


@pytest.mark.parametrize("name", TORCH_RENDERERS)
@pytest.mark.parametrize("radius", [0.004, 0.05, 0.3])
def test_compiled_loops_draw_what_torch_draws_in_groups(name, radius, monkeypatch):
    points, cameras = scene(3000)
    compiled = resolve(name).render(points, cameras, radius)
    points.xyz.requires_grad_()  # which compiled loops leave to torch
    whole = resolve(name).render(points, cameras, radius)
    monkeypatch.setattr(point_renderer_torch, "_CANDIDATES", 300)
    parts = resolve(name).render(points, cameras, radius)
    for field in ("rgb", "alpha", "depth", "confidence"):
        assert torch.equal(getattr(whole, field), getattr(parts, field))
        torch.testing.assert_close(getattr(compiled, field), getattr(whole, field), atol=1e-6, rtol=1e-6)
    assert torch.equal(compiled.depth, whole.depth)


@pytest.mark.parametrize("name", TORCH_RENDERERS)
def test_nearest_point_wins_and_gives_the_depth(name):
    K = torch.tensor([[20.0, 0, 8.5], [0, 20, 8.5], [0, 0, 1]])[None]
    camera = Cameras(torch.eye(4)[None], K, 17, 17)
    points = PointCloud(
        torch.tensor([[0.0, 0, 4], [0, 0, 2], [0, 0, -1]]),
        torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        torch.tensor([0.2, 0.7, 1.0]),
    )
    render = resolve(name).render(points, camera, radius_of_pixels(0.6, 17, 17))
    assert render.rgb[0, :, 8, 8].tolist() == [1, 0, 0]
    assert float(render.depth[0, 0, 8, 8]) == 2
    assert float(render.confidence[0, 0, 8, 8]) == pytest.approx(0.7)
    assert int((render.alpha > 0).sum()) == 1
    assert float(render.rgb.sum()) == 1 and float(render.depth.sum()) == 2


def test_front_mean_is_normalised():
    points, cameras = scene()
    render = resolve("front").render(points, cameras, 0.1)
    covered = render.alpha > 0
    torch.testing.assert_close(render.alpha[covered], torch.ones(int(covered.sum())))
    assert torch.equal(covered, resolve("teacher").render(points, cameras, 0.1).depth > 0)


@pytest.mark.parametrize("name", TORCH_RENDERERS)
def test_an_empty_cloud_is_black(name):
    _, cameras = scene()
    render = resolve(name).render(PointCloud(torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0)), cameras)
    assert render.rgb.shape == (2, 3, 24, 40)
    assert not render.rgb.any() and not render.depth.any() and not render.alpha.any()


@pytest.mark.parametrize("name", TORCH_RENDERERS)
def test_bad_radius_is_refused(name):
    points, cameras = scene()
    with pytest.raises(InputError, match="radius must be positive"):
        resolve(name).render(points, cameras, 0.0)


def test_names_are_checked():
    with pytest.raises(InputError, match="point renderer must be one of"):
        resolve("opengl")
    try:
        import pytorch3d  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"pytorch3d installed.*pip install"):
            POINT_RENDERERS["pytorch3d"]()


def test_pytorch3d_gives_the_same_picture():
    pytest.importorskip("pytorch3d")
    points, cameras = scene()
    ours, theirs = (resolve(name).render(points, cameras, 0.3) for name in ("teacher", "pytorch3d"))
    for field in ("rgb", "alpha", "depth", "confidence"):
        torch.testing.assert_close(getattr(ours, field), getattr(theirs, field), atol=1e-4, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TORCH_RENDERERS)
def test_gpu_draws_the_same_picture(name):
    from fvgen.devices import default_device

    points, cameras = scene()
    on_gpu = resolve(name).render(points.to(default_device()), cameras.to(default_device()), 0.3)
    torch.testing.assert_close(on_gpu.rgb.cpu(), resolve(name).render(points, cameras, 0.3).rgb, atol=1e-5, rtol=0)
