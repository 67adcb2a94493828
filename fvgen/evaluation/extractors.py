"""Pretrained networks that LPIPS and FID compare pictures by: given by file or fetched on request, never replaced.

torchmetrics and torch-fidelity fetch these weights silently when a metric is made. Here the user gives the file, or
asks for it by ``fvgen evaluate fetch``, which checks it against the SHA-256 that its name carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from fvgen.checks import InputError, complaint, require
from fvgen.files import disk_errors, sha256, whole_file

ExtractorName = Literal["vgg16", "alexnet", "inception"]


@dataclass(frozen=True)
class ReleasedWeights:
    """A file that its authors have published."""

    url: str
    size: int
    """Bytes."""
    sha256_start: str
    """First digits of its SHA-256, as the file's name carries them."""
    licence: str
    used_by: str
    """Metrics that need it."""

    @property
    def file(self) -> str:
        """Its name."""
        return Path(urlsplit(self.url).path).name


RELEASED: Mapping[ExtractorName, ReleasedWeights] = {
    "vgg16": ReleasedWeights(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        553433881,
        "397923af",
        "BSD-3-Clause (torchvision; trained on ImageNet, whose photos are for research)",
        "lpips_vgg",
    ),
    "alexnet": ReleasedWeights(
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        244408911,
        "7be5be79",
        "BSD-3-Clause (torchvision; trained on ImageNet, whose photos are for research)",
        "lpips_alex",
    ),
    "inception": ReleasedWeights(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        95628359,
        "6726825d",
        "Apache-2.0",
        "fid",
    ),
}


def load_extractor(name: ExtractorName, path: Path) -> nn.Module:
    """The network of a metric with the weights of a file.

    Args:
        name: "vgg16" and "alexnet" give LPIPS (Zhang et al. 2018) with torchmetrics' linear layers: called with two
            [B, 3, H, W] in [-1, 1], it returns [B, 1, 1, 1]. "inception" gives FID's features: uint8 [B, 3, H, W] in,
            [B, 2048] out.
        path: the released file, or one that holds the same tensors.

    Raises:
        InputError: there is no such file, or it holds other tensors.
    """
    weights = RELEASED[name]
    require(path.is_file(), f"weights of {name}", "be a file", path, _how_to_get(name))
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        network = _inception(path) if name == "inception" else _lpips(name, state)
    except (RuntimeError, KeyError, AttributeError, EOFError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        text = complaint(f"weights of {name}", f"be those of {weights.file}", f"{path} ({reason})", _how_to_get(name))
        raise InputError(text) from error
    return network.eval().requires_grad_(False)


def fetch_extractor(name: ExtractorName, folder: Path, *, agreed: bool = False) -> Path:
    """Download a released file after saying what it is; one that is there and whole is kept.

    Args:
        name: which.
        folder: where to put it.
        agreed: the user has said yes; otherwise the terminal is asked.

    Returns:
        The file; it may be missing where the user said no.

    Raises:
        InputError: the address cannot be reached, the disk is full, or another file arrived.
    """
    weights = RELEASED[name]
    path = folder / weights.file
    if path.is_file() and sha256(path).startswith(weights.sha256_start):
        print(f"{path} is there and whole.")
        return path
    print(f"source       {weights.url}")
    print(f"size         {weights.size:,} bytes ({weights.size / 1e6:.0f} MB)")
    print(f"licence      {weights.licence}")
    print(f"destination  {path}")
    if not agreed and input("Fetch it? [y/N] ").strip().lower() not in ("y", "yes"):
        print("Nothing fetched.")
        return path
    again = "Run this again, or fetch it on another machine."
    with (
        disk_errors("the weights", path, "Choose another folder, or go online and run this again."),
        whole_file(path) as unfinished,
    ):
        torch.hub.download_url_to_file(weights.url, str(unfinished))
        found = sha256(unfinished)
        require(found.startswith(weights.sha256_start), weights.file, f"hash to {weights.sha256_start}…", found, again)
    return path


def missing_weights(name: ExtractorName) -> InputError:
    """What to say where a metric is asked for and its network was not given."""
    return InputError(
        complaint(f"metric {RELEASED[name].used_by}", f"have the weights of {name}", "none", _how_to_get(name))
    )


def _how_to_get(name: ExtractorName) -> str:
    weights = RELEASED[name]
    megabytes = f"{weights.size / 1e6:.0f} MB"
    return f"Fetch them ({megabytes}, {weights.licence}): fvgen evaluate fetch {name}, then --weights FOLDER."


def _lpips(name: ExtractorName, state: dict[str, Tensor]) -> nn.Module:
    """torchmetrics numbers layers as torchvision does and groups them into slices: slice2.4.weight is features.4."""
    from torchmetrics.functional.image.lpips import _LPIPS

    kind: Literal["vgg", "alex"] = "vgg" if name == "vgg16" else "alex"
    network = _LPIPS(pretrained=True, net=kind, pnet_rand=True, eval_mode=True)  # its linear layers come with it
    backbone = cast(nn.Module, network.net)
    renamed = {key: state[f"features.{key.split('.', 1)[1]}"] for key in backbone.state_dict()}
    backbone.load_state_dict(renamed)
    return network


def _inception(path: Path) -> nn.Module:
    """torch-fidelity's own class unpickles its file freely. That is safe here: the file has just been read as plain
    tensors, which fails where it holds anything else."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Features(FeatureExtractorInceptionV3):  # type: ignore[misc]
        num_features = 2048

        def forward(self, x: Tensor) -> Tensor:
            return cast(Tensor, super().forward(x)[0])

    return Features("inception-v3-compat", ["2048"], str(path))
