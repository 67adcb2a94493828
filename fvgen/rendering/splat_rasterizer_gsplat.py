"""Splat rasterizer for CUDA: an adapter to gsplat."""

from __future__ import annotations

import importlib

from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.rendering.splat_rasterizer import (
    EPS2D,
    FAR_PLANE,
    NEAR_PLANE,
    TILE,
    RasterizeMode,
    SplatRender,
    check_inputs,
)
from fvgen.rendering.splat_rasterizer_torch import TorchRasterizer
from fvgen.types import Cameras


def build_failure(error: Exception | None) -> InputError:
    """One line about why gsplat has no CUDA kernels: ``error`` as raised by the build, None where nvcc is missing."""
    from torch.utils.cpp_extension import CUDA_HOME

    if error is None:
        cause = "no nvcc on the PATH"
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if "error:" in line.lower() or "not found" in line.lower()]
        cause = (telling or lines or [type(error).__name__])[0]
    next_step = (
        f"Set CUDA_HOME (now {CUDA_HOME}) to the folder of a CUDA toolkit that holds bin/nvcc and"
        " include/cuda_runtime.h and put its bin on the PATH, or train on the CPU with the numba rasterizer."
    )
    return InputError(complaint("gsplat's CUDA kernels", "build on this machine", cause, next_step))


class GsplatRasterizer:
    """gsplat's CUDA kernels, built by gsplat on first use."""

    name = "gsplat"

    def __init__(self) -> None:
        """Load the kernels.

        Raises:
            InputError: gsplat cannot build them here; the text names the cause.
        """
        try:
            backend = importlib.import_module("gsplat.cuda._backend")
        except (RuntimeError, OSError, ImportError) as error:
            raise build_failure(error) from error
        if backend._C is None:
            raise build_failure(None)
        self._rasterization = importlib.import_module("gsplat").rasterization

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
        if len(means) == 0:  # gsplat's kernels cannot be launched over nothing
            return TorchRasterizer().rasterize(
                means, quats, scales, opacities, sh, cameras, sh_degree, background, rasterize_mode=rasterize_mode
            )
        check_inputs(means, quats, scales, opacities, sh, cameras, sh_degree, background)
        image, alpha, info = self._rasterization(
            means,
            quats,
            scales,
            opacities,
            sh,
            cameras.w2c.to(means.dtype),
            cameras.K.to(means.dtype),
            cameras.width,
            cameras.height,
            near_plane=NEAR_PLANE,
            far_plane=FAR_PLANE,
            eps2d=EPS2D,
            tile_size=TILE,
            sh_degree=sh_degree,
            packed=False,
            render_mode="RGB+ED",
            absgrad=absgrad,
            rasterize_mode=rasterize_mode,
            backgrounds=None if background is None else background.expand(len(cameras), 3).contiguous(),
        )
        return SplatRender(image[..., :3], alpha, image[..., 3:], info)
