"""The Triton kernels against float64 autograd, by Triton's interpreter, and compiled for a GPU without one."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

_EQUALITY = """
import torch
import torch.nn.functional as F
from fvgen.models.geglu_triton import FusedGeglu
from fvgen.models.group_norm_triton import FusedGroupNorm

torch.manual_seed(0)

def check(found, expected):
    for ours, exact in zip(found, expected, strict=True):
        error = (ours - exact).abs().max() / exact.abs().max()
        assert error < 2e-6, error.item()

cases = (  # shape, groups, SiLU, shift, channels-last
    ((2, 20, 5, 7), 4, True, True, True),
    ((3, 24, 4, 40), 8, False, False, False),
    ((1, 6, 300), 2, True, False, False),
    ((2, 16, 20, 30), 1, True, True, False),  # a group over several programs
)
for shape, groups, silu, shifted, last in cases:
    x = torch.randn(shape) * 3 + 5
    x = x.to(memory_format=torch.channels_last) if last else x
    inputs = [x, torch.randn(shape[1]), torch.randn(shape[1])] + ([torch.randn(shape[:2])] if shifted else [])
    inputs = [t.requires_grad_() for t in inputs]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y = FusedGroupNorm.apply(*(inputs if shifted else [*inputs, None]), groups, 1e-5, silu)
    assert y.stride() == x.stride()
    moved = exact[0] + exact[3].view(*shape[:2], *[1] * (len(shape) - 2)) if shifted else exact[0]
    z = F.group_norm(moved, groups, exact[1], exact[2], 1e-5)
    z = F.silu(z) if silu else z
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    (z * weights).sum().backward()
    check([y.detach(), *(t.grad for t in inputs)], [z.detach(), *(t.grad for t in exact)])

both = torch.randn(3, 5, 40, requires_grad=True)
exact = both.detach().double().requires_grad_()
y = FusedGeglu.apply(both)
value, gate = exact.chunk(2, -1)
z = value * F.gelu(gate)
y.sum().backward()
z.sum().backward()
check([y.detach(), both.grad], [z.detach(), exact.grad])
"""


def test_kernels_equal_float64_autograd():
    # Tolerance: float32 arithmetic on means of a few hundred values.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _EQUALITY], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_kernels_compile_for_an_h100():
    import triton
    from triton.backends.compiler import GPUTarget

    from fvgen.models import geglu_triton, group_norm_triton

    half = ["x", "shift", "weight", "bias", "grad", "y", "out", "both"]
    single = ["partial", "statistics", "sums", "means"]
    types = dict.fromkeys(half, "*bf16") | dict.fromkeys(single, "*fp32") | {"eps": "fp32"}
    types |= dict.fromkeys(["parts", "groups", "group_size", "positions", "columns", "width"], "i32")
    types |= dict.fromkeys(("x_strides", "y_strides"), ("i64", "i64", "i32", "i32"))
    constants = {"SHIFTED": True, "SILU": True, "CHANNELS": 16, "BLOCK": 256, "PARTS": 64}
    kernels = [getattr(group_norm_triton, name) for name in ("_moments", "_apply", "_sums", "_apply_backward")]
    for kernel in [*kernels, geglu_triton._forward, geglu_triton._backward]:
        names = kernel.arg_names
        signature = {name: types.get(name, "constexpr") for name in names}
        fixed = {(names.index(name),): value for name, value in constants.items() if name in names}
        source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=fixed)
        assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
