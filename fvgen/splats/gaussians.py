"""Gaussians before activation, as a splat is trained and stored; turned and chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvgen.checks import require
from fvgen.rendering.splat_rasterizer_torch import harmonics_basis
from fvgen.types import TensorRecord

_DIRECTIONS = 64
"""Directions from which the turned harmonics are fitted; 16 coefficients need at least as many."""


@dataclass(frozen=True)
class Gaussians(TensorRecord):
    """N Gaussians, as splat files hold them."""

    means: Tensor
    """[N, 3] centres, scene units"""
    quats: Tensor
    """[N, 4] rotations (w, x, y, z), of any length but 0"""
    scales: Tensor
    """[N, 3] logarithms of the standard deviations"""
    opacities: Tensor
    """[N] logits"""
    sh: Tensor
    """[N, K, 3] spherical harmonics with the signs of 3DGS, K 1, 4, 9 or 16"""

    def __post_init__(self) -> None:
        count, terms = len(self.means), self.sh.shape[1] if self.sh.ndim == 3 else 0
        shapes = {
            "means": (self.means, (count, 3)),
            "quats": (self.quats, (count, 4)),
            "scales": (self.scales, (count, 3)),
            "opacities": (self.opacities, (count,)),
            "sh": (self.sh, (count, terms, 3)),
        }
        for name, (value, shape) in shapes.items():
            require(value.shape == shape, name, f"have shape {list(shape)}", list(value.shape), "One row a Gaussian.")
        require(terms in (1, 4, 9, 16), "sh", "have 1, 4, 9 or 16 coefficients", terms, "Fill up with zeros.")

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, chosen: Tensor) -> Gaussians:
        """The Gaussians of a mask [N] or of indices."""
        return Gaussians(
            self.means[chosen], self.quats[chosen], self.scales[chosen], self.opacities[chosen], self.sh[chosen]
        )

    @property
    def degree(self) -> int:
        """Highest degree of the harmonics, 0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[1]]

    def finite(self) -> Tensor:
        """[N] bool: whether all numbers of a Gaussian are finite and it has an orientation."""
        parts = (self.means, self.quats, self.scales, self.opacities[:, None], self.sh.flatten(1))
        good = [torch.isfinite(part).all(dim=1) for part in parts]
        return torch.stack([*good, self.quats.norm(dim=1) > 0]).all(dim=0)

    def turned(self, rotation: Tensor) -> Gaussians:
        """The scene turned about the origin: positions, orientations and harmonics.

        Args:
            rotation: [3, 3]; a point x goes to ``rotation @ x``.

        Raises:
            InputError: it is no rotation.
        """
        R = rotation.double().cpu()
        proper = R.shape == (3, 3) and torch.allclose(R @ R.T, torch.eye(3).double(), atol=1e-6) and torch.det(R) > 0
        require(bool(proper), "rotation", "be a 3x3 rotation matrix", rotation.tolist(), "Orthonormalise it.")
        from scipy.spatial.transform import Rotation

        x, y, z, w = Rotation.from_matrix(R.numpy()).as_quat().tolist()
        # the quaternion product (w, x, y, z) * q as a matrix
        product = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]], dtype=torch.float64)
        turn = _turned_harmonics(self.degree, R)

        def apply(matrix: Tensor, values: Tensor) -> Tensor:
            return torch.einsum("ij,nj...->ni...", matrix.to(values.device), values.double()).to(values.dtype)

        return Gaussians(
            apply(R, self.means), apply(product, self.quats), self.scales, self.opacities, apply(turn, self.sh)
        )


def _turned_harmonics(degree: int, rotation: Tensor) -> Tensor:
    """[K, K] what a rotation [3, 3] makes of coefficients: ``Y(d) @ (M @ a) = Y(rotation.T @ d) @ a`` for every d.

    Harmonics of one degree turn among themselves, so the fit over more directions than coefficients is exact.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(_DIRECTIONS, 3, generator=generator, dtype=torch.float64)
    directions = directions / directions.norm(dim=1, keepdim=True)
    after, before = harmonics_basis(degree, directions), harmonics_basis(degree, directions @ rotation)
    return torch.linalg.lstsq(after, before).solution
