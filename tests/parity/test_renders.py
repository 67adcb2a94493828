"""Point renders against PyTorch3D's own pictures and fragments."""

from __future__ import annotations

import json

import pytest
import torch
from reference_files import VECTORS
from safetensors.torch import load_file

from fvgen.geometry.reference_trajectory import from_pytorch3d
from fvgen.rendering.point_renderer import resolve
from fvgen.rendering.point_renderer_torch import rasterize_points
from fvgen.types import Cameras, PointCloud

NAMES = ("render_small", "render_big_radius")


def sizes(name: str) -> list[str]:
    """Sizes of the pictures that a file holds."""
    return [key for key, value in settings(name).items() if isinstance(value, dict)]


def settings(name: str) -> dict:
    return json.loads((VECTORS / f"{name}.json").read_text())


def case(name: str, size: str) -> tuple[dict, PointCloud, Cameras, float]:
    vectors = load_file(VECTORS / f"{name}.safetensors")
    config = settings(name)
    part = {key.removeprefix(f"{size}."): value for key, value in vectors.items() if key.startswith(f"{size}.")}
    K = torch.eye(3).repeat(len(part["R"]), 1, 1)
    K[:, 0, 0] = K[:, 1, 1] = part["focal"][:, 0]
    K[:, :2, 2] = part["pp"]
    cameras = Cameras(from_pytorch3d(part["R"], part["T"]), K, config[size]["H"], config[size]["W"])
    rgb = vectors["in.colors"]
    return part, PointCloud(vectors["in.points"], rgb, torch.ones(len(rgb))), cameras, config["radius"]


@pytest.mark.parametrize(("name", "size"), [(name, size) for name in NAMES for size in sizes(name)])
def test_teacher_compositing(name, size):
    part, points, cameras, radius = case(name, size)
    render = resolve("teacher").render(points, cameras, radius)
    torch.testing.assert_close(render.rgb.permute(0, 2, 3, 1), part["images"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_teacher_compositing_from_poses(name):
    """From camera-to-world poses instead of PyTorch3D's R and T."""
    part, points, cameras, radius = case(name, "40x64")
    poses = load_file(VECTORS / f"{name}.safetensors")["in.c2w"]
    render = resolve("teacher").render(points, Cameras(poses, cameras.K, cameras.height, cameras.width), radius)
    torch.testing.assert_close(render.rgb.permute(0, 2, 3, 1), part["images"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", sizes("render_small"))
def test_fragments(size):
    part, points, cameras, radius = case("render_small", size)
    for i in range(len(cameras)):
        fragments = rasterize_points(points.xyz, cameras[i], radius, 10)
        index = part["frag.idx"][i].long()
        expected = torch.where(index >= 0, index - i * len(points), -1)
        # Discs that graze a pixel centre may fall either way in the last bit.
        differ = fragments.index != expected
        assert int(differ.sum()) <= 2
        real = (expected >= 0) & ~differ
        torch.testing.assert_close(fragments.z[real], part["frag.zbuf"][i][real], atol=1e-4, rtol=0)
        torch.testing.assert_close(fragments.share[real] * radius**2, part["frag.dists"][i][real], atol=1e-8, rtol=1e-3)
