"""Adapter to an installed PyTorch3D: the teacher's own point renderer, with the signature of all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fvgen.checks import InputError, complaint
from fvgen.geometry.reference_trajectory import to_pytorch3d
from fvgen.rendering.point_renderer import TEACHER_RADIUS, check_radius, empty_render
from fvgen.types import Cameras, PointCloud, PointRender


@dataclass(frozen=True)
class PyTorch3DRenderer:
    """``PointsRasterizer`` + alpha compositing without background, as in the teacher's data.

    Raises:
        InputError: PyTorch3D is not installed.
    """

    per_pixel: int = 10
    """Points that count in a pixel."""

    def __post_init__(self) -> None:
        try:
            import pytorch3d.renderer  # noqa: F401
        except ImportError as error:
            raise InputError(
                complaint(
                    "point renderer pytorch3d",
                    "have the package pytorch3d installed",
                    f"'{error}'",
                    "pip install --no-build-isolation git+https://github.com/facebookresearch/pytorch3d, or use the "
                    "renderer teacher, which gives the same pictures.",
                )
            ) from error

    def render(self, points: PointCloud, cameras: Cameras, radius: float = TEACHER_RADIUS) -> PointRender:
        """See `PointRenderer.render`."""
        from pytorch3d.renderer import PerspectiveCameras, PointsRasterizationSettings, PointsRasterizer
        from pytorch3d.renderer.compositing import alpha_composite
        from pytorch3d.structures import Pointclouds

        check_radius(radius)
        if len(points) == 0:
            return empty_render(cameras)
        size = (cameras.height, cameras.width)
        settings = PointsRasterizationSettings(
            image_size=size, radius=radius, points_per_pixel=self.per_pixel, bin_size=0
        )
        features = torch.cat([points.rgb, points.confidence[:, None]], dim=1).float()
        cloud = Pointclouds(points=[points.xyz.float()], features=[features])
        out = empty_render(cameras)
        for i in range(len(cameras)):
            rotation, translation = to_pytorch3d(cameras.c2w[i : i + 1].float())
            K = cameras.K[i : i + 1].float()
            camera = PerspectiveCameras(
                focal_length=torch.stack([K[:, 0, 0], K[:, 1, 1]], 1),
                principal_point=K[:, :2, 2],
                R=rotation,
                T=translation,
                in_ndc=False,
                image_size=torch.tensor([size]),
                device=K.device,
            )
            fragments = PointsRasterizer(camera, settings)(cloud)
            index = fragments.idx.long().permute(0, 3, 1, 2)  # the compositor reads 64 bits
            alpha = torch.where(index >= 0, 1 - fragments.dists.permute(0, 3, 1, 2) / radius**2, 0.0)
            blended = alpha_composite(index, alpha, features.T)
            out.rgb[i], out.confidence[i] = blended[0, :3], blended[0, 3:]
            out.alpha[i] = 1 - (1 - alpha[0]).prod(0, keepdim=True)
            out.depth[i] = fragments.zbuf[..., 0].clamp_min(0)
        return out
