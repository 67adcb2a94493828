import pytest
import torch
from pytorch_msssim import ssim as reference_ssim

from fvgen.metrics import avge, fit_affine_colour, psnr, ssim, ssim_map, st_lpips


@pytest.mark.parametrize("size", [(40, 56), (11, 11), (33, 90)])
def test_ssim_equals_the_reference_implementation(size):
    torch.manual_seed(0)
    target = torch.rand(3, *size)
    prediction = (target + 0.2 * torch.randn_like(target)).clamp(0, 1)
    expected = reference_ssim(prediction[None], target[None], data_range=1.0)
    assert ssim(prediction, target).item() == pytest.approx(expected.item(), abs=1e-5)


def test_ssim_gradient_equals_the_reference_implementation():
    torch.manual_seed(1)
    target = torch.rand(3, 24, 30)
    ours = torch.rand(3, 24, 30, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    ssim(ours, target).backward()
    reference_ssim(theirs[None], target[None], data_range=1.0).backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)


@pytest.mark.parametrize("size", [(12, 11), (40, 300), (11, 139)])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_ssim_equals_float64_autograd(size, threads):
    # Tolerance: float32 differences of means of squares, 1e-7 over C2 = 9e-4, at most.
    torch.manual_seed(2)
    target = torch.rand(3, *size)
    ours = (target + 0.1 * torch.randn_like(target)).clamp(0, 1).requires_grad_()
    exact = ours.detach().double().requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, expected = ssim_map(ours, target), ssim_map(exact, target.double())
        weights = torch.randn_like(found)
        (found * weights).sum().backward()
    finally:
        torch.set_num_threads(before)
    (expected * weights).sum().backward()
    assert (found - expected).abs().max() < 2e-4
    assert (ours.grad - exact.grad).abs().max() < 1e-4 * exact.grad.abs().max()


def test_ssim_of_an_image_smaller_than_the_window_is_defined():
    image = torch.rand(3, 6, 40)
    assert torch.isfinite(ssim_map(image, image)).all()
    assert ssim(image, image).item() == pytest.approx(1, abs=1e-5)


def test_psnr_counts_only_the_pixels_asked_for():
    target = torch.zeros(3, 4, 4)
    prediction = torch.zeros(3, 4, 4)
    prediction[:, 0] = 0.1
    where = torch.zeros(1, 4, 4, dtype=torch.bool)
    where[:, 0] = True
    assert psnr(prediction, target, where).item() == pytest.approx(20, abs=1e-4)
    assert psnr(prediction, target).item() == pytest.approx(26.0206, abs=1e-3)


def test_ssim_counts_only_the_windows_asked_for():
    torch.manual_seed(3)
    target, prediction = torch.rand(3, 30, 40), torch.rand(3, 30, 40)
    where = torch.zeros(1, 30, 40, dtype=torch.bool)
    where[:, 5:-5, 5:20] = True  # the centres of the windows inside the left 25 columns
    assert ssim(prediction, target, where).item() == pytest.approx(ssim(prediction[..., :25], target[..., :25]).item())


def test_affine_colour_fit_to_some_pixels_ignores_the_others():
    torch.manual_seed(4)
    picture = torch.rand(3, 20, 20) * 0.5 + 0.2
    target = 0.7 * picture + 0.1
    target[:, :, 15:] = 1
    where = torch.ones(1, 20, 20, dtype=torch.bool)
    where[:, :, 15:] = False
    fitted = fit_affine_colour(picture, target, where)
    assert torch.allclose(fitted, 0.7 * picture + 0.1, atol=1e-5)


def test_affine_colour_fit_undoes_exposure_and_white_balance():
    torch.manual_seed(2)
    picture = torch.rand(3, 20, 20) * 0.5 + 0.2
    matrix = torch.tensor([[0.9, 0.05, 0], [0, 0.8, 0.1], [0.02, 0, 0.7]])
    drifted = torch.einsum("ij,jhw->ihw", matrix, picture) + 0.05
    assert torch.allclose(fit_affine_colour(drifted, picture), picture, atol=1e-5)


def pattern(height=48, width=64):
    """A smooth coloured pattern with edges: random numbers alone have no structure that a perceptual metric sees."""
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 8, width), indexing="ij")
    return torch.stack([(y.sin() * x.cos() > 0).float(), (x * 2).sin() / 2 + 0.5, (y + x).cos() / 2 + 0.5])


def test_st_lpips_is_the_packages_own_figure():
    from stlpips_pytorch import stlpips

    target = pattern()
    blurred = torch.nn.functional.avg_pool2d(target[None], 5, 1, 2)[0]
    network = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    with torch.no_grad():
        expected = network(2 * blurred[None] - 1, 2 * target[None] - 1).item()
    assert st_lpips(blurred, target).item() == pytest.approx(expected, abs=1e-6)
    assert st_lpips(target, target).item() == 0


@pytest.mark.parametrize("size", [(20, 64), (48, 9), (1, 1)])
def test_st_lpips_of_a_small_image_is_that_of_the_image_with_its_border_repeated(size):
    target, blurred = pattern(*size), pattern(*size) * 0.8 + 0.1
    rows, columns = (torch.arange(max(32, side)).clamp_max(side - 1) for side in size)
    larger = [image[:, rows][:, :, columns] for image in (blurred, target)]
    assert st_lpips(blurred, target).item() == pytest.approx(st_lpips(*larger).item(), abs=1e-6)
    assert st_lpips(target, target).item() == 0


def test_st_lpips_forgives_a_shift_that_psnr_does_not():
    target = pattern()
    shifted, blurred = target.roll(1, -1), torch.nn.functional.avg_pool2d(target[None], 5, 1, 2)[0]
    assert psnr(shifted, target) < psnr(blurred, target)
    assert st_lpips(shifted, target) < st_lpips(blurred, target) / 2


def test_st_lpips_looks_only_at_the_chosen_pixels():
    target = pattern()
    where = torch.zeros(1, *target.shape[1:], dtype=torch.bool)
    where[:, :, :32] = True
    spoilt = torch.where(where, target, 1 - target)
    assert st_lpips(spoilt, target, where).item() == 0
    assert st_lpips(spoilt, target).item() > 0.05


def test_avge_is_the_geometric_mean_of_three_errors():
    assert avge(20, 0.75, 0.1) == pytest.approx((0.01 * 0.5 * 0.1) ** (1 / 3))
    assert avge(20, 1.0, 0.1) == 0
