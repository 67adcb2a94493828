"""The splat rasterizers against each other, against gsplat's own torch code, and with its densification."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from splat_scenes import HEIGHT, INPUTS, WIDTH, make_cameras, make_gaussians

from fvgen.rendering import numba_compositing, splat_rasterizer
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.rendering.splat_rasterizer_torch import harmonics_basis
from fvgen.types import Cameras

# float32 rounding of positions (half a ulp at 64 px, times slopes of up to 4 / px) and of the running transmittance,
# amplified up to 1000 times by 1 / (1 - alpha) where alpha nears its cap; relative to the largest value of each tensor
TOLERANCE = 1e-4


def render_and_differentiate(name, gaussians, cameras, degree=3, mode="classic", dtype=torch.float32, device="cpu"):
    """All outputs, and all gradients of a random weighting of image, alpha and depth."""
    leaves = [t.detach().to(device, dtype).requires_grad_() for t in gaussians]
    background = torch.tensor([0.2, 0.5, 0.7], dtype=dtype, device=device, requires_grad=True)
    render = resolve(name, device).rasterize(
        *leaves, cameras.to(device, dtype), degree, background, absgrad=True, rasterize_mode=mode
    )
    render.info["means2d"].retain_grad()
    generator = torch.Generator().manual_seed(1)
    loss = sum(
        (torch.randn(image.shape, generator=generator).to(image) * image).sum()
        for image in (render.rgb, render.alpha, render.depth)
    )
    loss.backward()
    means2d = render.info["means2d"]
    values = {"rgb": render.rgb, "alpha": render.alpha, "depth": render.depth, "radii": render.info["radii"]}
    grads = dict(zip(INPUTS, (t.grad for t in leaves), strict=True))
    grads |= {"background": background.grad, "means2d": means2d.grad, "absgrad": means2d.absgrad}
    seen = render.info["radii"] > 0  # gsplat leaves the rest uninitialised
    values["means2d"] = torch.where(seen[..., None], means2d, 0)
    return {k: v.detach().double().cpu() for k, v in (values | {f"d/d {k}": v for k, v in grads.items()}).items()}


def assert_close(ours, exact, tolerance=TOLERANCE):
    for name, expected in exact.items():
        largest = float(expected.abs().max())
        error = float((ours[name] - expected).abs().max())
        assert error <= tolerance * max(largest, 1e-6), f"{name}: {error:.2e} of {largest:.2e}"


@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize(("size", "degree"), [(0.01, 3), (0.03, 0), (0.08, 3), (0.08, 1), (0.3, 2)])
def test_numba_equals_float64_autograd(size, degree, mode):
    gaussians, cameras = make_gaussians(size=size), make_cameras()
    exact = render_and_differentiate("torch", gaussians, cameras, degree, mode, torch.float64)
    assert float(exact["alpha"].max()) > 0.5 and float(exact["d/d means"].abs().max()) > 0
    assert_close(render_and_differentiate("numba", gaussians, cameras, degree, mode), exact)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (1, 1), (5, 40)])
def test_images_of_a_single_tile_or_row_of_tiles(height, width):
    cameras = make_cameras()
    gaussians, cameras = make_gaussians(), Cameras(cameras.c2w, cameras.K, height, width)
    exact = render_and_differentiate("torch", gaussians, cameras, dtype=torch.float64)
    assert float(exact["alpha"].max()) > 0
    assert_close(render_and_differentiate("numba", gaussians, cameras), exact)


def test_opaque_stack_stops_like_the_oracle():
    """Hundreds of nearly opaque splats over each pixel: the cap at 0.999 and the stop at 1e-4 decide."""
    gaussians = make_gaussians(400, size=0.2)
    gaussians[3] = torch.linspace(0.9, 1.0, 400)
    cameras = make_cameras(1)
    exact = render_and_differentiate("torch", gaussians, cameras, dtype=torch.float64)
    ours = render_and_differentiate("numba", gaussians, cameras)
    # Where T (1 - alpha) comes within rounding of 1e-4 one precision draws a splat that the other does not: both are
    # right, and such a splat weighs up to 0.1. A few pixels of 3150 may differ, so compare quantiles and totals.
    assert float(exact["alpha"].max()) <= 1 - 1e-4
    assert float((ours["rgb"] - exact["rgb"]).abs().quantile(0.999)) < 1e-4
    for name in ("d/d sh", "d/d background"):
        difference = (ours[name] - exact[name]).norm() / exact[name].norm()
        assert difference < 0.01, name


@given(seed=st.integers(0, 2**31), size=st.floats(0.01, 0.5), count=st.integers(1, 60), degree=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_numba_equals_oracle_on_any_scene(seed, size, count, degree):
    gaussians, cameras = make_gaussians(count, size, seed), make_cameras(1)
    exact = resolve("torch", "cpu").rasterize(*[t.double() for t in gaussians], cameras.to(torch.float64), degree)
    ours = resolve("numba", "cpu").rasterize(*gaussians, cameras, degree)
    # 0.02: a splat that reaches a pixel with alpha within rounding of 1/255 is drawn by one and not by the other
    assert float((ours.rgb - exact.rgb).abs().max()) < 0.02 * float(exact.rgb.max().clamp(min=1))
    assert float((ours.rgb - exact.rgb).abs().mean()) < 1e-5


@given(angle=st.floats(-3, 3), x=st.floats(-2, 2), y=st.floats(-2, 2), z=st.floats(-2, 2))
@settings(max_examples=15, deadline=None)
def test_moving_world_and_camera_together_changes_nothing(angle, x, y, z):
    means, quats, scales, opacities, sh = make_gaussians(100)
    cameras = make_cameras(1)
    move = torch.eye(4)
    move[0, 0] = move[1, 1] = math.cos(angle)
    move[0, 1], move[1, 0] = -math.sin(angle), math.sin(angle)
    move[:3, 3] = torch.tensor([x, y, z])
    w, i, j, k = quats.unbind(1)
    c, s = math.cos(angle / 2), math.sin(angle / 2)
    turned = torch.stack([c * w - s * k, c * i - s * j, c * j + s * i, c * k + s * w], 1)
    moved = Cameras(move @ cameras.c2w, cameras.K, HEIGHT, WIDTH)
    rasterize = resolve("numba", "cpu").rasterize
    before = rasterize(means, quats, scales, opacities, sh, cameras, 0)
    after = rasterize(means @ move[:3, :3].T + move[:3, 3], turned, scales, opacities, sh, moved, 0)
    # rounding at |t| = 2 moves a splat by about 1e-4 px
    assert float((before.rgb - after.rgb).abs().quantile(0.99)) < 1e-3


def test_one_gaussian_by_hand():
    """A round Gaussian on the axis: alpha and colour in closed form."""
    K = torch.tensor([[[50.0, 0, 16.5], [0, 50, 16.5], [0, 0, 1]]])
    cameras = Cameras(torch.eye(4)[None], K, 33, 33)
    sh = torch.full((1, 1, 3), 0.25) * torch.tensor([1, 2, -9])
    for name in ("numba", "torch"):
        render = resolve(name, "cpu").rasterize(
            torch.tensor([[0, 0, 2.0]]),
            torch.tensor([[2.0, 0, 0, 0]]),
            torch.full((1, 3), 0.1),
            torch.tensor([0.8]),
            sh,
            cameras,
            0,
            torch.ones(3),
        )
        variance = (0.1 * 50 / 2) ** 2 + 0.3
        alpha = 0.8 * math.exp(-0.5 * 3**2 / variance)
        assert render.alpha[0, 16, 19, 0] == pytest.approx(alpha, abs=1e-5)
        colour = [0.5 + 0.25 * 0.28209479, 0.5 + 0.5 * 0.28209479, 0]
        expected = [alpha * c + 1 - alpha for c in colour]
        assert render.rgb[0, 16, 19].tolist() == pytest.approx(expected, abs=1e-5)
        assert render.depth[0, 16, 19, 0] == pytest.approx(2, abs=1e-5)
        assert render.info["radii"].tolist() == [[math.ceil(3 * math.sqrt(variance + 0.1))]]
        assert float(render.rgb[0, 0, 0].min()) == 1


def test_projection_and_harmonics_equal_gsplats_torch_code():
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    means, quats, scales, opacities, sh = make_gaussians()
    cameras = make_cameras()
    covariances, _ = reference._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, *_ = reference._fully_fused_projection(
        means, covariances, cameras.w2c, cameras.K, WIDTH, HEIGHT
    )
    info = resolve("numba", "cpu").rasterize(means, quats, scales, opacities, sh, cameras, 3).info
    seen = radii > 0
    # gsplat's float32 determinant cancels for thin Gaussians, which can tip the rounding up of a radius
    assert int((info["radii"] != radii).sum()) <= 2
    assert torch.allclose(info["means2d"][seen], means2d[seen], atol=1e-3)
    assert torch.allclose(info["depths"][seen], depths[seen], atol=1e-5)
    directions = torch.nn.functional.normalize(means, dim=-1)
    theirs = reference._spherical_harmonics(3, directions, sh)
    assert torch.allclose(torch.einsum("nk,nkc->nc", harmonics_basis(3, directions), sh), theirs, atol=1e-5)


def test_same_bits_on_any_number_of_threads():
    gaussians, cameras = make_gaussians(2000, 0.05), make_cameras(3)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(render_and_differentiate("numba", gaussians, cameras))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_nothing_to_see(name):
    cameras, background = make_cameras(), torch.tensor([0.1, 0.2, 0.3])
    gaussians = make_gaussians(20)
    behind = [gaussians[0] - torch.tensor([0, 0, 30.0]), *gaussians[1:]]
    faint = [*gaussians[:3], torch.full((20,), 0.003), gaussians[4]]
    for scene in ([t[:0] for t in gaussians], behind, faint):
        leaves = [t.clone().requires_grad_() for t in scene]
        render = resolve(name, "cpu").rasterize(*leaves, cameras, 3, background)
        assert torch.equal(render.rgb, background.expand(2, HEIGHT, WIDTH, 3))
        assert not render.alpha.any() and not render.depth.any()
        (render.rgb.sum() + render.depth.sum()).backward()
        assert all(t.grad is None or not t.grad.any() for t in leaves)


@pytest.mark.parametrize("name", ["numba", "torch"])
def test_gaussians_that_are_not_finite_are_left_out(name):
    gaussians, cameras = make_gaussians(60), make_cameras(1)
    broken = [t.clone() for t in gaussians]
    broken[0][0], broken[0][1], broken[0][2] = math.nan, math.inf, -math.inf
    broken[0][3, 0], broken[1][4], broken[2][5] = math.nan, 0, math.nan
    kept = [t[6:] for t in gaussians]
    leaves = [t.requires_grad_() for t in broken]
    render = resolve(name, "cpu").rasterize(*leaves, cameras, 3)
    expected = resolve(name, "cpu").rasterize(*kept, cameras, 3)
    assert torch.equal(render.rgb, expected.rgb)
    render.rgb.sum().backward()
    assert all(torch.isfinite(t.grad[6:]).all() for t in leaves)
    assert not render.info["radii"][0, :6].any()


def test_inputs_of_any_layout_and_precision():
    gaussians, cameras = make_gaussians(), make_cameras()
    expected = render_and_differentiate("numba", gaussians, cameras)
    strided = [torch.stack([t, t], -1)[..., 0] for t in gaussians]
    assert not strided[0].is_contiguous()
    assert_close(render_and_differentiate("numba", strided, cameras), expected, 0)
    assert_close(render_and_differentiate("numba", gaussians, cameras, dtype=torch.float64), expected, 1e-6)


def test_three_hundred_thousand_gaussians():
    gaussians = make_gaussians(300_000, 0.01)
    leaves = [t.requires_grad_() for t in gaussians[:4]] + [gaussians[4][:, :1].clone().requires_grad_()]
    render = resolve("numba", "cpu").rasterize(*leaves, make_cameras(1), 0)
    render.rgb.sum().backward()
    assert torch.isfinite(render.rgb).all() and all(torch.isfinite(t.grad).all() for t in leaves)


def test_default_strategy_densifies_on_the_cpu():
    gsplat = pytest.importorskip("gsplat")
    means, quats, scales, opacities, sh = make_gaussians(80, 0.05)
    values = {
        "means": means, "quats": quats, "scales": scales.log(), "opacities": torch.logit(opacities, 1e-4), "sh": sh,
    }  # fmt: skip
    params = torch.nn.ParameterDict({k: torch.nn.Parameter(v) for k, v in values.items()})
    optimizers = {k: torch.optim.Adam([v], lr=0.01) for k, v in params.items()}
    cameras, rasterizer = make_cameras(1), resolve("auto", "cpu")
    target = torch.rand(1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
    for absgrad in (False, True):
        strategy = gsplat.DefaultStrategy(refine_start_iter=2, refine_every=5, grow_grad2d=1e-5, absgrad=absgrad)
        strategy.check_sanity(params, optimizers)
        state, before, losses = strategy.initialize_state(scene_scale=1.0), len(params["means"]), []
        for step in range(1, 12):
            render = rasterizer.rasterize(
                params["means"],
                params["quats"],
                params["scales"].exp(),
                params["opacities"].sigmoid(),
                params["sh"],
                cameras,
                3,
                absgrad=absgrad,
            )
            strategy.step_pre_backward(params, optimizers, state, step, render.info)
            loss = (render.rgb - target).abs().mean()
            loss.backward()
            losses.append(loss.item())
            strategy.step_post_backward(params, optimizers, state, step, render.info)
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
        assert len(params["means"]) > before
        assert losses[-1] < losses[0]


def test_tile_size_is_one():
    """The kernels hold their own constant, because numba's cache would not notice a change in another file."""
    assert numba_compositing.TILE == splat_rasterizer.TILE


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["classic", "antialiased"])
@pytest.mark.parametrize("degree", [0, 3])
def test_all_equal_gsplat(degree, mode):
    """gsplat's kernels use fast-math exp and float32 throughout: 1e-3 of the largest value."""
    gaussians, cameras = make_gaussians(), make_cameras()
    theirs = render_and_differentiate("gsplat", gaussians, cameras, degree, mode, device="cuda")
    for name, device in (("torch", "cuda"), ("torch", "cpu"), ("numba", "cpu")):
        assert_close(render_and_differentiate(name, gaussians, cameras, degree, mode, device=device), theirs, 1e-3)
