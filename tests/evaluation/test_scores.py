"""Scores of pictures against independent implementations, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from fvgen.checks import InputError
from fvgen.evaluation.scores import ScoreSettings, frechet_distance, score_folders, score_pictures

PLAIN = ScoreSettings(("psnr", "ssim"))


def pictures(count, height=40, width=56, seed=0):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    return list(torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear"))


def noisy(images, amount=0.05):
    generator = torch.Generator().manual_seed(9)
    return [(x + amount * torch.randn(x.shape, generator=generator)).clamp(0, 1) for x in images]


def test_psnr_and_ssim_agree_with_scikit_image():
    real = pictures(2)
    drawn = noisy(real)
    scores = score_pictures(drawn, real, ["a", "b"], PLAIN)
    for name, picture, photo in zip("ab", drawn, real, strict=True):
        x, y = (image.permute(1, 2, 0).double().numpy() for image in (picture, photo))
        assert scores.pictures[name]["psnr"] == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-4)
        _, full = structural_similarity(
            y, x, channel_axis=2, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )
        assert scores.pictures[name]["ssim"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-4)
    assert scores.mean["psnr"] == pytest.approx(np.mean([row["psnr"] for row in scores.pictures.values()]))


def test_the_colour_fit_takes_an_affine_change_out():
    real = pictures(1)
    scores = score_pictures([0.5 * real[0] + 0.1], real, ["a"], ScoreSettings(("psnr", "psnr_affine")))
    assert scores.mean["psnr_affine"] > 60 > scores.mean["psnr"]
    assert "psnr_affine" in scores.settings["colour_fit"]


def test_crop_compares_the_centre_alone():
    real = pictures(1)
    drawn = [real[0].clone()]
    drawn[0][:, :4] = 0  # wrong where nobody looks
    whole = score_pictures(drawn, real, ["a"], PLAIN)
    centre = score_pictures(drawn, real, ["a"], ScoreSettings(("psnr", "ssim"), crop=(40, 30)))
    assert centre.mean["ssim"] == pytest.approx(1) and whole.mean["ssim"] < 1
    assert centre.settings["crop"] == (40, 30)


def test_avge_is_the_geometric_mean_of_three_errors():
    real = pictures(1)
    row = score_pictures(noisy(real), real, ["a"], ScoreSettings(("psnr", "ssim", "st_lpips", "avge"))).pictures["a"]
    errors = 10 ** (-row["psnr"] / 10), np.sqrt(1 - row["ssim"]), row["st_lpips"]
    assert row["avge"] == pytest.approx(np.prod(errors) ** (1 / 3))


class MeanColours(torch.nn.Module):
    num_features = 3

    def forward(self, x):
        return x.float().mean(dim=(2, 3)) / 255


def test_frechet_distance_is_the_closed_form():
    drawn, real = pictures(12, seed=1), pictures(15, seed=2)

    def moments(images):
        features = MeanColours()(torch.stack([(255 * x).round().byte() for x in images])).double().numpy()
        return features.mean(0), np.cov(features, rowvar=False)

    (m1, c1), (m2, c2) = moments(drawn), moments(real)
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(drawn, real, MeanColours()) == pytest.approx(expected, abs=1e-6)
    network = {"inception": MeanColours()}
    scores = score_pictures(drawn, real[:12], [f"{i}" for i in range(12)], ScoreSettings(("fid",)), network)
    assert scores.mean["fid"] == pytest.approx(frechet_distance(drawn, real[:12], MeanColours()))


def test_folders_are_matched_by_name(tmp_path):
    real = pictures(3)
    for folder, images in (("photos", real), ("drawn", noisy(real))):
        (tmp_path / folder).mkdir()
        for name, image in zip("abc", images, strict=True):
            pixels = (255 * image.permute(1, 2, 0)).round().byte().numpy()
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    scores = score_folders(tmp_path / "drawn", tmp_path / "photos", PLAIN)
    assert list(scores.pictures) == ["a", "b", "c"]
    assert scores.settings["matched_by"] == "name"
    assert 20 < scores.mean["psnr"] < 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": []}, "pictures must not be empty"),
        ({"names": ["a"]}, "must be equally many"),
        ({"pictures": pictures(2, 48)}, "must have the real one's 56x40 pixels, got 56x48"),
        ({"settings": ScoreSettings(("lpips_vgg",))}, "fvgen evaluate fetch vgg16"),
        ({"settings": ScoreSettings(("fid",))}, "metric fid must have the weights of inception"),
        ({"settings": ScoreSettings(("avge",))}, "metric avge must have the three errors it joins"),
        ({"settings": ScoreSettings(("psnr",), crop=(400, 10))}, "crop must lie within a"),
        ({"settings": ScoreSettings(("beauty",))}, "metrics must be out of"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message):
    arguments = {"pictures": pictures(2), "references": pictures(2), "names": ["a", "b"], "settings": PLAIN} | change
    if not arguments["pictures"]:
        arguments |= {"references": [], "names": []}
    with pytest.raises(InputError, match=message):
        score_pictures(**arguments)
