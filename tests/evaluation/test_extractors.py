"""The networks of LPIPS and FID: loaded from files of the released form, never replaced."""

from pathlib import Path

import pytest
import torch
import torchvision
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchmetrics.functional.image.lpips import _LPIPS

from fvgen.checks import InputError
from fvgen.evaluation.extractors import RELEASED, fetch_extractor, load_extractor
from fvgen.evaluation.scores import ScoreSettings, score_pictures


def test_lpips_takes_the_backbone_of_the_file(tmp_path):
    torch.manual_seed(0)
    backbone = torchvision.models.alexnet(weights=None)
    path = tmp_path / RELEASED["alexnet"].file
    torch.save({f"features.{key}": value for key, value in backbone.features.state_dict().items()}, path)
    network = load_extractor("alexnet", path)
    picture, real = torch.rand(3, 64, 64), torch.rand(3, 64, 64)
    scores = score_pictures([picture], [real], ["a"], ScoreSettings(("lpips_alex",)), {"alexnet": network})

    oracle = _LPIPS(pretrained=True, net="alex", pnet_rand=True, eval_mode=True)
    layers = dict(backbone.features.named_children())
    for part in oracle.net.children():
        for name, layer in part.named_children():
            if hasattr(layer, "weight"):
                layer.load_state_dict(layers[name].state_dict())
    assert scores.mean["lpips_alex"] == pytest.approx(
        float(oracle(2 * picture[None] - 1, 2 * real[None] - 1)), rel=1e-5
    )
    assert float(network(2 * real[None] - 1, 2 * real[None] - 1)) == pytest.approx(0, abs=1e-6)


def test_inception_takes_the_weights_of_the_file(tmp_path):
    class Random(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            return None

    torch.manual_seed(0)
    torch.save({}, tmp_path / "empty.pth")
    random = Random("inception-v3-compat", ["2048"], str(tmp_path / "empty.pth"))
    path = tmp_path / RELEASED["inception"].file
    torch.save(random.state_dict(), path)
    image = (255 * torch.rand(1, 3, 40, 40)).byte()
    assert torch.equal(load_extractor("inception", path)(image), random(image)[0])


@pytest.mark.parametrize("content", [{"features.0.weight": torch.zeros(3)}, {"other": torch.zeros(1)}])
def test_a_file_with_other_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(InputError, match=r"weights of vgg16 must be those of vgg16-397923af\.pth"):
        load_extractor("vgg16", tmp_path / "file.pth")


def test_a_missing_file_names_source_size_and_licence(tmp_path):
    with pytest.raises(InputError, match=r"must be a file.*553 MB, BSD-3-Clause.*fvgen evaluate fetch vgg16"):
        load_extractor("vgg16", tmp_path / "nowhere.pth")


def test_nothing_is_fetched_without_a_yes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda _: "n")
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_: pytest.fail("downloaded"))
    assert not fetch_extractor("inception", tmp_path).exists()
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("github.com/toshas/torch-fidelity", "95,628,359 bytes", "Apache-2.0"))


def test_a_file_that_arrives_damaged_is_not_kept(tmp_path, monkeypatch):
    def arrive(_, path):
        Path(path).write_bytes(b"half of it")

    monkeypatch.setattr(torch.hub, "download_url_to_file", arrive)
    with pytest.raises(InputError, match="must hash to 6726825d"):
        fetch_extractor("inception", tmp_path, agreed=True)
    assert list(tmp_path.iterdir()) == []
