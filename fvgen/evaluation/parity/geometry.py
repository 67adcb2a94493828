"""Camera paths and point renders against their references."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.evaluation.parity.vectors import Comparison, Comparisons, VectorFile
from fvgen.geometry import reference_trajectory as paths
from fvgen.rendering.point_renderer_torch import TeacherCompositing, rasterize_points
from fvgen.types import Cameras, PointCloud

PATH_TOLERANCE = 1e-6
"""float64 paths, stored in part as float32."""
RENDER_TOLERANCE = 1e-4
"""Colours and depths at a radius of 0.01: PyTorch3D's positions are float32, and alpha magnifies them by 2 / radius."""
_COMPOSITOR = "AlphaCompositor no background"


def _scaled(vector: VectorFile, names: list[str]) -> float:
    """The tolerance for positions: it grows with the size of the scene they lie in."""
    return PATH_TOLERANCE * max([1.0, *(float(vector[name].double().abs().max()) for name in names)])


def _steps_between(vector: VectorFile, views: int, frames: int) -> int:
    """Frames per pair of views, from how many come out."""
    require(
        views >= 2 and (frames - 1) % (views - 1) == 0,
        f"{vector.path.name}'s path",
        "have the same number of frames between all views",
        (views, frames),
        "The file is damaged or of another kind.",
    )
    return (frames - 1) // (views - 1)


def check_interpolation(vector: VectorFile) -> Comparisons:
    """Sparse-view interpolation: poses, PyTorch3D's R and T, focal lengths, principal points; each case of the file."""
    for case in vector.prefixes("in.c2w"):
        poses, out = vector[f"{case}in.c2w"], f"{case}out."
        length = _steps_between(vector, len(poses), len(vector[f"{out}c2w_path"])) + 1
        tolerance = _scaled(vector, [f"{case}in.c2w"])
        c2w = paths.interpolated_poses(poses, length)
        rotation, translation = paths.to_pytorch3d(c2w)
        yield vector.compare(f"{out}c2w_path", c2w, tolerance)
        yield vector.compare(f"{out}R", rotation, PATH_TOLERANCE)
        yield vector.compare(f"{out}T", translation, tolerance)
        for name in ("focal", "pp"):
            pixels = paths.interpolated_values(vector[f"{case}in.{name}"], length)
            reference = vector[f"{out}{name}"]
            # Pixels in float32: one unit in the last place of 512 is 6e-5.
            rounding = float(torch.finfo(torch.float32).eps * reference.abs().max())
            yield vector.compare(f"{out}{name}", pixels.expand(-1, reference.shape[1]), max(PATH_TOLERANCE, rounding))


def check_focus_path(vector: VectorFile) -> Comparisons:
    """Paths around the points that pairs of cameras look at."""
    for case in vector.prefixes("in.c2w"):
        poses = vector[f"{case}in.c2w"]
        tolerance = _scaled(vector, [f"{case}in.c2w"])
        inserts = _steps_between(vector, len(poses), len(vector[f"{case}out.path"])) - 1
        for name in [name for name in vector.tensors if name.startswith(f"{case}out.focus")]:
            pair = re.fullmatch(r"(\d)(\d)", name.removeprefix(f"{case}out.focus"))
            if pair:
                meeting = paths.axes_meeting_point(poses[[int(pair[1]), int(pair[2])]])
                yield vector.compare(name, meeting, tolerance)
        yield vector.compare(f"{case}out.path", paths.focus_path(poses, inserts), tolerance)


def check_single_view(vector: VectorFile) -> Comparisons:
    """The object frame, and single-view paths by target and by list."""
    pose, points = paths.world_to_object(
        vector["obj.in.pose"],
        vector["obj.in.points"],
        -1,
        float(vector["obj.in.r"]),
        float(vector.setting("elevation")),
    )
    tolerance = _scaled(vector, ["obj.in.pose", "obj.in.points"])
    yield vector.compare("obj.out.pose", pose, tolerance)
    yield vector.compare("obj.out.points", points, tolerance)
    anchor = vector["obj.out.pose"][-1]
    made: dict[str, Tensor] = {}
    if "specified.out.R" in vector:
        d_theta, d_phi, d_r, d_x, d_y = (float(vector.setting(f"d_{name}")) for name in ("theta", "phi", "r", "x", "y"))
        made["specified"] = paths.specified_path(anchor, d_theta, d_phi, d_r, d_x, d_y, len(vector["specified.out.R"]))
    if "txt.out.R" in vector:
        theta, phi, r = (vector.setting(name) for name in ("theta", "phi", "r"))
        made["txt"] = paths.listed_path(anchor, theta, phi, r, len(vector["txt.out.R"]))
    for name, c2w in made.items():
        rotation, translation = paths.to_pytorch3d(c2w)
        yield vector.compare(f"{name}.out.R", rotation, PATH_TOLERANCE)
        yield vector.compare(f"{name}.out.T", translation, tolerance)


def check_render(vector: VectorFile) -> Comparisons:
    """Pictures of a point cloud, and per pixel which points, how deep and how far; every picture size of the file."""
    radius, per_pixel = float(vector.setting("radius")), int(vector.setting("points_per_pixel"))
    compositor = vector.config.get("compositor", _COMPOSITOR)
    require(compositor == _COMPOSITOR, "compositor", f"be {_COMPOSITOR}", compositor, "ViewCrafter used no other.")
    colours = vector["in.colors"].float()
    points = PointCloud(vector["in.points"].float(), colours, torch.ones(len(colours)))
    renderer = TeacherCompositing(per_pixel)
    for size in vector.prefixes("images"):
        images, focal = vector[f"{size}images"], vector[f"{size}focal"]
        K = torch.eye(3).repeat(len(focal), 1, 1)
        K[:, 0, 0], K[:, 1, 1], K[:, :2, 2] = focal[:, 0], focal[:, -1], vector[f"{size}pp"]
        c2w = paths.from_pytorch3d(vector[f"{size}R"], vector[f"{size}T"])
        cameras = Cameras(c2w, K, images.shape[1], images.shape[2])
        render = renderer.render(points, cameras, radius)
        allowed = RENDER_TOLERANCE * max(1.0, 0.01 / radius)
        yield vector.compare(f"{size}images", render.rgb.permute(0, 2, 3, 1), allowed)
        if f"{size}frag.idx" in vector:
            yield from _check_fragments(vector, f"{size}frag.", points, cameras, radius)


def _check_fragments(
    vector: VectorFile, prefix: str, points: PointCloud, cameras: Cameras, radius: float
) -> Comparisons:
    packed = vector[f"{prefix}idx"].long()
    first = torch.arange(len(cameras))[:, None, None, None] * len(points)
    expected = torch.where(packed >= 0, packed - first, -1)
    found = [rasterize_points(points.xyz, cameras[i], radius, packed.shape[-1]) for i in range(len(cameras))]
    index = torch.stack([fragments.index for fragments in found])
    same = index == expected
    # A disc that grazes a pixel centre may fall either way in the last bit, and moves those behind it by one place.
    differ = float((~same).any(-1).sum())
    yield Comparison(f"{prefix}idx", differ, max(2.0, 1e-4 * same[..., 0].numel()), "px")
    real = same & (expected >= 0)
    for name in ("zbuf", "dists"):
        filler = vector[f"{prefix}{name}"][packed < 0]
        yield Comparison(f"{prefix}{name} of no point", float((filler != -1).sum()), 0.0)
    z, share = (torch.stack([getattr(fragments, name) for fragments in found]) for name in ("z", "share"))
    yield vector.compare(f"{prefix}zbuf", z, RENDER_TOLERANCE, real)
    yield vector.compare(f"{prefix}dists", share * radius**2, 1e-3 * radius**2, real)
