"""Differentiable rendering of 3D Gaussians, with one signature for every machine.

Conventions are those of gsplat 1.4.0's ``rasterization(..., packed=False, render_mode="RGB+ED")``; the constants below
are its own. Pixel centres lie at +0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.devices import is_gpu
from fvgen.types import Cameras

RasterizeMode = Literal["classic", "antialiased"]

NEAR_PLANE = 0.01
FAR_PLANE = 1e10
EPS2D = 0.3
"""px^2, added to both variances of a splat: none is thinner than about a pixel."""
ALPHA_MIN = 1 / 255
"""A splat is not drawn where its alpha is below this."""
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
"""A pixel is finished by the splat that would take its transmittance to this or below; that splat is not drawn."""
TILE = 16
"""Pixels on a side. A splat is drawn in the tiles that the square of its 3-sigma radius touches."""


@dataclass(frozen=True)
class SplatRender:
    """Images of C cameras."""

    rgb: Tensor
    """[C, H, W, 3] over the background, at least 0 where the background is"""
    alpha: Tensor
    """[C, H, W, 1] in [0, 1)"""
    depth: Tensor
    """[C, H, W, 1] expected depth sum(w z) / sum(w) along the camera's z, 0 where nothing is drawn"""
    info: dict[str, Any]
    """What gsplat's DefaultStrategy reads: ``means2d`` [C, N, 2] (in the graph; its gradient is the true one),
    ``radii`` [C, N] int32 (0 where unseen), ``depths`` [C, N], ``width``, ``height``, ``n_cameras``, and
    ``gaussian_ids`` (None: nothing is packed)."""


class SplatRasterizer(Protocol):
    """Renders Gaussians; gradients of any order one reach every tensor argument but the cameras."""

    name: str

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
        """Render N Gaussians into C cameras.

        Args:
            means: [N, 3] centres in the world. A Gaussian whose centre is not finite is not drawn.
            quats: [N, 4] rotations (w, x, y, z), of any length but 0.
            scales: [N, 3] standard deviations along the axes (after exp).
            opacities: [N] in [0, 1] (after sigmoid).
            sh: [N, K, 3] spherical harmonics, K >= (sh_degree + 1)^2; colour = max(0, 0.5 + sum).
            cameras: C pinhole cameras without skew, taken as constants.
            sh_degree: 0 to 3, the highest degree in use.
            background: [3] colour behind everything; None is black.
            absgrad: leave each splat's sum of absolute pixel gradients in ``info["means2d"].absgrad`` [C, N, 2] after
                the backward pass (AbsGS, https://arxiv.org/abs/2404.10484).
            rasterize_mode: "antialiased" dims a splat by what the blur added to it (Mip-Splatting,
                https://arxiv.org/abs/2311.16493).

        Raises:
            InputError: a shape, a device or the degree does not fit.
        """
        ...


def check_inputs(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    sh: Tensor,
    cameras: Cameras,
    sh_degree: int,
    background: Tensor | None,
) -> None:
    """Refuse what no rasterizer could draw; arguments as in `SplatRasterizer.rasterize`."""
    count = len(means)
    shapes = {
        "means": (means, (count, 3)),
        "quats": (quats, (count, 4)),
        "scales": (scales, (count, 3)),
        "opacities": (opacities, (count,)),
    }
    for name, (tensor, shape) in shapes.items():
        require(
            tensor.shape == shape, name, f"have shape {list(shape)}", list(tensor.shape), "Give one row per Gaussian."
        )
    require(sh_degree in (0, 1, 2, 3), "sh_degree", "be 0, 1, 2 or 3", sh_degree, "Higher harmonics are not supported.")
    terms = (sh_degree + 1) ** 2
    require(
        sh.ndim == 3 and len(sh) == count and sh.shape[1] >= terms and sh.shape[2] == 3,
        "sh",
        f"have shape [{count}, at least {terms}, 3] for degree {sh_degree}",
        list(sh.shape),
        "Add coefficients (zeros will do) or lower sh_degree.",
    )
    require(
        background is None or background.shape == (3,),
        "background",
        "have shape [3]",
        None if background is None else list(background.shape),
        "Give one colour.",
    )
    require(
        not (cameras.c2w.requires_grad or cameras.K.requires_grad),
        "cameras",
        "be constants",
        "tensors that require a gradient",
        "Detach them: no gradient reaches the cameras.",
    )
    for name, tensor in {
        "cameras": cameras.c2w,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "sh": sh,
    }.items():
        require(
            tensor.device == means.device,
            name,
            f"be on {means.device} like the means",
            tensor.device,
            "Move it there first.",
        )


def make_info(means2d: Tensor, radii: Tensor, depths: Tensor, cameras: Cameras) -> dict[str, Any]:
    """`SplatRender.info` from positions [C, N, 2], radii [C, N] and depths [C, N]."""
    return {
        "means2d": means2d,
        "radii": radii,
        "depths": depths,
        "width": cameras.width,
        "height": cameras.height,
        "n_cameras": len(cameras),
        "gaussian_ids": None,
    }


def _loader(module: str, class_name: str) -> Callable[[], SplatRasterizer]:
    return lambda: getattr(import_module(f"fvgen.rendering.{module}"), class_name)()


RASTERIZERS: dict[str, Callable[[], SplatRasterizer]] = {
    "gsplat": _loader("splat_rasterizer_gsplat", "GsplatRasterizer"),
    "numba": _loader("splat_rasterizer_numba", "NumbaRasterizer"),
    "torch": _loader("splat_rasterizer_torch", "TorchRasterizer"),
}
"""Name -> factory, imported on first use."""


def resolve(name: str, device: torch.device | str) -> SplatRasterizer:
    """The rasterizer called ``name`` for tensors on ``device``; "auto" is gsplat on a GPU and numba on the CPU.

    Raises:
        InputError: no such name, or it does not run on that device.
    """
    if name == "auto":
        name = "gsplat" if is_gpu(device) else "numba"
    require(
        name in RASTERIZERS,
        "rasterizer",
        f"be one of auto, {', '.join(RASTERIZERS)}",
        repr(name),
        "Use auto if in doubt.",
    )
    if (name == "gsplat" and not is_gpu(device)) or (name == "numba" and torch.device(device).type != "cpu"):
        need = "a CUDA GPU" if name == "gsplat" else "the CPU"
        raise InputError(
            complaint(f"rasterizer {name}", f"run on {need}", device, "Use auto, which takes the one for the device.")
        )
    return RASTERIZERS[name]()
