"""Splat rasterizer in plain torch: the slow oracle. Any device, float32 or float64, gradients by autograd.

Tile by tile, every splat against every pixel of the tile; nothing here is clever, so that the fast ones can be checked
against it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from fvgen.rendering.splat_rasterizer import (
    ALPHA_MAX,
    ALPHA_MIN,
    EPS2D,
    FAR_PLANE,
    NEAR_PLANE,
    TILE,
    TRANSMITTANCE_MIN,
    RasterizeMode,
    SplatRender,
    check_inputs,
    make_info,
)
from fvgen.types import Cameras


def harmonics_basis(degree: int, directions: Tensor) -> Tensor:
    """Real spherical harmonics with the signs of 3DGS.

    Args:
        degree: 0 to 3.
        directions: [..., 3] unit vectors.

    Returns:
        [..., (degree + 1)^2]
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    terms = [
        torch.full_like(x, 0.28209479177387814),
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (3 * zz - 1),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (5 * zz - 1),
        0.3731763325901154 * z * (5 * zz - 3),
        -0.4570457994644658 * x * (5 * zz - 1),
        1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3 * yy),
    ]
    return torch.stack(terms[: (degree + 1) ** 2], -1)


def _rotations(quats: Tensor) -> Tensor:
    """[N, 4] quaternions (w, x, y, z) of any length -> [N, 3, 3]"""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def _project(means: Tensor, quats: Tensor, scales: Tensor, c2w: Tensor, K: Tensor, width: int, height: int):
    """One camera's view of N Gaussians: positions [N, 2] in pixels, 2D covariances [N, 2, 2] unblurred, depths [N]."""
    rotation = c2w[:3, :3].T
    in_camera = (means - c2w[:3, 3]) @ rotation.T
    x, y, z = in_camera.unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    slope_x = torch.maximum(torch.minimum(x / z, (width - cx) / fx + margin_x), -cx / fx - margin_x)
    slope_y = torch.maximum(torch.minimum(y / z, (height - cy) / fy + margin_y), -cy / fy - margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], -1).view(-1, 2, 3)
    half = jacobian @ rotation @ _rotations(quats) * scales[:, None, :]
    positions = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    return positions, half @ half.transpose(1, 2), z


def _composite(offsets: Tensor, conics: Tensor, opacities: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Blend M depth-sorted splats over P pixels (equation 3 of 3DGS).

    Args:
        offsets: [M, P, 2] splat position minus pixel centre.
        conics: [M, 2, 2] inverse 2D covariances.
        opacities: [M].
        features: [M, D].

    Returns:
        Blended features [P, D] and transmittance [P].
    """
    sigma = 0.5 * torch.einsum("mpi,mij,mpj->mp", offsets, conics, offsets)
    alpha = (opacities[:, None] * torch.exp(-sigma)).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
    # Transmittance only falls: the first splat to take it to the minimum finishes a pixel, none after is drawn.
    alpha = torch.where(torch.cumprod(1 - alpha, 0) > TRANSMITTANCE_MIN, alpha, 0)
    through = torch.cat([alpha.new_ones(1, alpha.shape[1]), torch.cumprod(1 - alpha, 0)])
    return (alpha * through[:-1]).T @ features, through[-1]


@dataclass(frozen=True)
class _Splats:
    """What one camera sees of the Gaussians: M splats, near to far."""

    index: Tensor  # [M] int64, which Gaussian
    radii: Tensor  # [M]
    positions: Tensor  # [M, 2]
    conics: Tensor  # [M, 2, 2]
    opacities: Tensor  # [M]
    features: Tensor  # [M, 4] red, green, blue, depth


class TorchRasterizer:
    """The oracle: slow, and right."""

    name = "torch"

    def rasterize(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        sh: Tensor,
        cameras: Cameras,
        sh_degree: int,
        background: Tensor | None = None,
        *,
        absgrad: bool = False,
        rasterize_mode: RasterizeMode = "classic",
    ) -> SplatRender:
        """See `SplatRasterizer.rasterize`."""
        check_inputs(means, quats, scales, opacities, sh, cameras, sh_degree, background)
        cameras = cameras.to(means.dtype)
        background = means.new_zeros(3) if background is None else background
        views = [
            _splats_of_camera(means, quats, scales, opacities, sh, cameras[c], sh_degree, rasterize_mode)
            for c in range(len(cameras))
        ]
        blank = means.new_zeros(len(means), 2)
        means2d = torch.stack([blank.index_copy(0, view.index, view.positions) for view in views])
        radii = torch.zeros(means2d.shape[:2], dtype=torch.int32, device=means.device)
        depths = means.new_zeros(means2d.shape[:2])
        images, alphas = [], []
        for c, view in enumerate(views):
            radii[c, view.index] = view.radii.int()
            depths[c, view.index] = view.features[:, 3].detach()
            # Drawn from the stacked positions, so that their gradient is the one densification reads.
            image, through = _draw(replace(view, positions=means2d[c][view.index]), cameras, means2d, c, absgrad)
            images.append(image)
            alphas.append(1 - through)
        image, alpha = torch.stack(images), torch.stack(alphas)[..., None]
        rgb = image[..., :3] + (1 - alpha) * background
        depth = image[..., 3:] / alpha.clamp(min=1e-10)
        return SplatRender(rgb, alpha, depth, make_info(means2d, radii, depths, cameras))


def _splats_of_camera(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    camera: Cameras,
    degree: int,
    mode: RasterizeMode,
) -> _Splats:
    width, height = camera.width, camera.height
    with torch.no_grad():
        radii, depths = _visible_radii(means, quats, scales, camera)
        seen = torch.nonzero(radii > 0)[:, 0]
        seen = seen[torch.argsort(depths[seen], stable=True)]
    positions, covariances, z = _project(
        means[seen], quats[seen], scales[seen], camera.c2w[0], camera.K[0], width, height
    )
    blurred = covariances + EPS2D * torch.eye(2, dtype=means.dtype, device=means.device)
    visible_opacities = opacities[seen]
    if mode == "antialiased":
        ratio = torch.linalg.det(covariances) / torch.linalg.det(blurred)
        visible_opacities = visible_opacities * ratio.clamp(min=torch.finfo(means.dtype).tiny).sqrt()
    directions = torch.nn.functional.normalize(means[seen] - camera.c2w[0, :3, 3], dim=-1)
    basis = harmonics_basis(degree, directions)
    rgb = (torch.einsum("mk,mkc->mc", basis, sh[seen][:, : basis.shape[1]]) + 0.5).clamp(min=0)
    features = torch.cat([rgb, z[:, None]], 1)
    return _Splats(seen, radii[seen], positions, torch.linalg.inv(blurred), visible_opacities, features)


def _visible_radii(means: Tensor, quats: Tensor, scales: Tensor, camera: Cameras) -> tuple[Tensor, Tensor]:
    """[N] radius in pixels of the square that holds 3 sigma, 0 where nothing is seen; [N] depth."""
    width, height = camera.width, camera.height
    positions, covariances, z = _project(means, quats, scales, camera.c2w[0], camera.K[0], width, height)
    xx, yy = covariances[:, 0, 0] + EPS2D, covariances[:, 1, 1] + EPS2D
    determinant = xx * yy - covariances[:, 0, 1] ** 2
    half_trace = 0.5 * (xx + yy)
    largest = half_trace + (half_trace**2 - determinant).clamp(min=0.01).sqrt()
    radii = torch.ceil(3 * largest.sqrt())
    x, y = positions.unbind(-1)
    inside = (x + radii > 0) & (x - radii < width) & (y + radii > 0) & (y - radii < height)
    seen = inside & (z >= NEAR_PLANE) & (z <= FAR_PLANE) & (determinant > 0) & torch.isfinite(radii)
    return torch.where(seen, radii, 0), z


def _draw(view: _Splats, cameras: Cameras, means2d: Tensor, c: int, absgrad: bool) -> tuple[Tensor, Tensor]:
    """Camera ``c``'s image [H, W, 4] and transmittance [H, W], tile by tile."""
    rows, rows_through = [], []
    columns, lines = -(-cameras.width // TILE), -(-cameras.height // TILE)
    first = torch.floor((view.positions.detach() - view.radii[:, None]) / TILE)
    last = torch.ceil((view.positions.detach() + view.radii[:, None]) / TILE)
    for line in range(lines):
        row, row_through = [], []
        for column in range(columns):
            tile = torch.tensor([column, line], device=means2d.device)
            here = torch.nonzero(((first <= tile) & (tile < last)).all(1))[:, 0]
            height, width = min(TILE, cameras.height - line * TILE), min(TILE, cameras.width - column * TILE)
            y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            pixels = torch.stack([x, y], -1).view(-1, 2).to(means2d) + tile * TILE
            offsets = view.positions[here][:, None] - pixels
            if absgrad and offsets.requires_grad:
                offsets.register_hook(partial(_add_absolute, means2d, c, view.index[here]))
            image, through = _composite(offsets, view.conics[here], view.opacities[here], view.features[here])
            row.append(image.view(height, width, 4))
            row_through.append(through.view(height, width))
        rows.append(torch.cat(row, 1))
        rows_through.append(torch.cat(row_through, 1))
    return torch.cat(rows), torch.cat(rows_through)


def _add_absolute(means2d: Tensor, c: int, index: Tensor, grad: Tensor) -> None:
    """Add the absolute gradient [M, P, 2] of M splats at P pixels to ``means2d.absgrad``."""
    if not hasattr(means2d, "absgrad"):
        means2d.absgrad = torch.zeros_like(means2d)  # type: ignore[attr-defined]
    means2d.absgrad[c].index_add_(0, index, grad.abs().sum(1))  # type: ignore[attr-defined]
