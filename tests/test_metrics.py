import pytest
import torch
from pytorch_msssim import ssim as reference_ssim

from fvgen.metrics import fit_affine_colour, psnr, ssim, ssim_map


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
