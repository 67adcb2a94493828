"""Which rasterizer is taken, and what each of them refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from splat_scenes import HEIGHT, INPUTS, WIDTH, make_cameras, make_gaussians

from fvgen.checks import InputError
from fvgen.rendering.splat_rasterizer import RASTERIZERS, resolve
from fvgen.rendering.splat_rasterizer_gsplat import build_failure
from fvgen.types import Cameras


def test_resolve_chooses_and_refuses():
    assert resolve("auto", "cpu").name == "numba"
    assert resolve("torch", "cpu").name == "torch"
    with pytest.raises(InputError, match="rasterizer must be one of auto, gsplat, numba, torch, got 'cpu'"):
        resolve("cpu", "cpu")
    with pytest.raises(InputError, match=r"rasterizer gsplat must run on a CUDA GPU, got cpu\. Use auto"):
        resolve("gsplat", "cpu")
    with pytest.raises(InputError, match=r"rasterizer numba must run on the CPU, got cuda\. Use auto"):
        resolve("numba", "cuda")


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_bad_input_is_refused_by_name(name):
    gaussians, cameras = make_gaussians(10), make_cameras()
    rasterize = resolve(name, "cpu").rasterize
    for index, argument in enumerate(INPUTS):
        wrong = [t[:9] if i == index else t for i, t in enumerate(gaussians)]
        with pytest.raises(InputError, match=f"{argument if index else 'quats'} must have shape"):
            rasterize(*wrong, cameras, 3)
    with pytest.raises(InputError, match=r"sh must have shape .* for degree 3, got"):
        rasterize(*gaussians[:4], gaussians[4][:, :9], cameras, 3)
    with pytest.raises(InputError, match=r"sh_degree must be 0, 1, 2 or 3, got 4\."):
        rasterize(*gaussians, cameras, 4)
    with pytest.raises(InputError, match="background must have shape"):
        rasterize(*gaussians, cameras, 3, torch.zeros(2, 3))
    moving = Cameras(cameras.c2w.clone().requires_grad_(), cameras.K, HEIGHT, WIDTH)
    with pytest.raises(InputError, match="cameras must be constants"):
        rasterize(*gaussians, moving, 3)


def test_protocol_module_imports_no_backend():
    code = (
        "import sys, fvgen.rendering.splat_rasterizer;"
        "sys.exit(any(m in sys.modules for m in ('numba', 'gsplat', 'nerfstudio')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert set(RASTERIZERS) == {"gsplat", "numba", "torch"}


def test_build_failure_is_one_line_with_the_cause():
    output = (
        "Error building extension 'gsplat_cuda': [1/24] nvcc ...\nx.cu:1: fatal error: cuda_runtime.h: No such file\n"
    )
    text = str(build_failure(RuntimeError(output)))
    assert "fatal error: cuda_runtime.h" in text and "CUDA_HOME" in text and "\n" not in text
    assert "no nvcc on the PATH" in str(build_failure(None))
