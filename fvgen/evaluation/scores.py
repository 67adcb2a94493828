"""Scores of pictures against the real ones: one call over tensors or over two folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from fvgen.checks import require
from fvgen.evaluation.extractors import ExtractorName, missing_weights
from fvgen.evaluation.frames_of import match_frames, read_frames
from fvgen.metrics import avge, fit_affine_colour, psnr, ssim, st_lpips

Metric = Literal["psnr", "psnr_affine", "ssim", "st_lpips", "lpips_vgg", "lpips_alex", "avge", "fid"]
METRICS: tuple[Metric, ...] = get_args(Metric)
WITHOUT_DOWNLOADS: tuple[Metric, ...] = ("psnr", "psnr_affine", "ssim", "st_lpips", "avge")
NETWORK_OF: Mapping[Metric, ExtractorName] = {"lpips_vgg": "vgg16", "lpips_alex": "alexnet", "fid": "inception"}
FID_FEWEST = 2
"""A covariance needs two pictures. FID of fewer than some thousand is biased upwards: compare equal counts only."""


@dataclass(frozen=True)
class ScoreSettings:
    """What is compared, and how."""

    metrics: tuple[Metric, ...] = WITHOUT_DOWNLOADS
    """Scores to compute. ``psnr_affine`` is PSNR after an affine colour fit of each picture; ``avge`` takes
    ``lpips_vgg`` where that is asked for, else ``st_lpips``."""
    crop: tuple[int, int] | None = None
    """Width and height in pixels of the centre that is compared; the whole picture when not given."""


@dataclass(frozen=True)
class Scores:
    """Scores of each picture, their means, and how they were made."""

    pictures: dict[str, dict[str, float]]
    mean: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def score_pictures(
    pictures: Sequence[Tensor],
    references: Sequence[Tensor],
    names: Sequence[str],
    settings: ScoreSettings = ScoreSettings(),
    networks: Mapping[ExtractorName, nn.Module] | None = None,
    where: Sequence[Tensor] | None = None,
) -> Scores:
    """Compare pictures with the real ones.

    Args:
        pictures: N images [3, H, W] in [0, 1].
        references: N real images of the same sizes.
        names: N names for the output.
        settings: which scores of which part.
        networks: those of LPIPS and FID, see `fvgen.evaluation.extractors.load_extractor`.
        where: N masks [1, H, W] bool of the pixels that count; all of them when not given. FID ignores it.

    Raises:
        InputError: nothing to compare, counts or sizes that differ, an unknown metric, a metric without its network.
    """
    networks = networks or {}
    _check(pictures, references, names, settings, networks)
    crop = _centre(settings.crop)
    masks: Sequence[Tensor | None] = where or [None] * len(pictures)
    rows: dict[str, dict[str, float]] = {}
    for name, picture, real, mask in zip(names, pictures, references, masks, strict=True):
        seen = None if mask is None else crop(mask)
        rows[name] = _scores(crop(picture).float(), crop(real).float(), seen, settings.metrics, networks)
    mean = {key: float(torch.tensor([row[key] for row in rows.values()]).mean()) for key in next(iter(rows.values()))}
    if "fid" in settings.metrics:
        mean["fid"] = frechet_distance(map(crop, pictures), map(crop, references), networks["inception"])
    perceptual = "lpips_vgg" if "lpips_vgg" in settings.metrics else "st_lpips"
    stated: dict[str, Any] = {"metrics": list(settings.metrics), "crop": settings.crop, "pictures": len(rows)}
    stated |= {"avge_perceptual": perceptual} if "avge" in settings.metrics else {}
    stated |= {"colour_fit": "affine, per picture, in psnr_affine only"} if "psnr_affine" in settings.metrics else {}
    return Scores(rows, mean, stated)


def score_folders(
    pictures: Path,
    references: Path,
    settings: ScoreSettings = ScoreSettings(),
    networks: Mapping[ExtractorName, nn.Module] | None = None,
) -> Scores:
    """Compare two folders of pictures, or films; see `fvgen.evaluation.frames_of` for the layouts and the matching.

    Raises:
        InputError: nothing to compare, frames that cannot be matched, see `score_pictures`.
    """
    drawn, real = read_frames(pictures), read_frames(references)
    pairs, rule = match_frames(drawn, real, pictures, references)
    scores = score_pictures(
        [drawn[name]() for name, _ in pairs],
        [real[name]() for _, name in pairs],
        [name for _, name in pairs],
        settings,
        networks,
    )
    return Scores(scores.pictures, scores.mean, scores.settings | {"matched_by": rule})


def frechet_distance(pictures: Any, references: Any, network: nn.Module) -> float:
    """FID (Heusel et al. 2017) of [3, H, W] images in [0, 1], by torchmetrics.

    Args:
        pictures: any number of images.
        references: any number of real images.
        network: uint8 [B, 3, H, W] to features [B, D], with ``num_features`` D.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    distance = FrechetInceptionDistance(feature=network, normalize=False)
    for images, real in ((references, True), (pictures, False)):
        for image in images:
            distance.update((255 * image.clamp(0, 1)).round().to(torch.uint8)[None], real=real)
    return float(distance.compute())


def _scores(
    picture: Tensor,
    real: Tensor,
    mask: Tensor | None,
    metrics: Sequence[Metric],
    networks: Mapping[ExtractorName, nn.Module],
) -> dict[str, float]:
    def lpips(name: ExtractorName) -> float:
        shown = picture if mask is None else torch.where(mask, picture, real)
        with torch.no_grad():
            return float(networks[name](2 * shown[None] - 1, 2 * real[None] - 1))

    compute: dict[str, Callable[[], float]] = {
        "psnr": lambda: float(psnr(picture, real, mask)),
        "psnr_affine": lambda: float(psnr(fit_affine_colour(picture, real, mask), real, mask)),
        "ssim": lambda: float(ssim(picture, real, mask)),
        "st_lpips": lambda: float(st_lpips(picture, real, mask)),
        "lpips_vgg": lambda: lpips("vgg16"),
        "lpips_alex": lambda: lpips("alexnet"),
    }
    found: dict[str, float] = {name: compute[name]() for name in metrics if name in compute}
    if "avge" in metrics:
        perceptual = found["lpips_vgg"] if "lpips_vgg" in found else found.get("st_lpips", 0.0)
        found["avge"] = avge(found["psnr"], found["ssim"], perceptual)
    return found


def _check(
    pictures: Sequence[Tensor],
    references: Sequence[Tensor],
    names: Sequence[str],
    settings: ScoreSettings,
    networks: Mapping[ExtractorName, nn.Module],
) -> None:
    metrics = settings.metrics
    require(len(pictures) > 0, "pictures", "not be empty", 0, "Give at least one.")
    counts = (len(pictures), len(references), len(names))
    require(len(set(counts)) == 1, "pictures, references and names", "be equally many", counts, "Match them first.")
    for name, picture, real in zip(names, pictures, references, strict=True):
        size = f"{picture.shape[-1]}x{picture.shape[-2]}"
        wanted = f"have the real one's {real.shape[-1]}x{real.shape[-2]} pixels"
        require(picture.shape == real.shape, f"picture {name}", wanted, size, "Draw it at that size.")
        if settings.crop is not None:
            width, height = settings.crop
            fits = 0 < width <= real.shape[-1] and 0 < height <= real.shape[-2]
            require(fits, "crop", f"lie within {name}, {size}", f"{width}x{height}", "Choose a smaller one.")
    unknown = [name for name in metrics if name not in METRICS]
    require(
        not unknown and bool(metrics), "metrics", f"be out of {', '.join(METRICS)}", unknown or "none", "Name some."
    )
    if "avge" in metrics:
        parts = {"psnr", "ssim"} <= {*metrics} and bool({"st_lpips", "lpips_vgg"} & {*metrics})
        step = "Add psnr, ssim and st_lpips or lpips_vgg."
        require(parts, "metric avge", "have the three errors it joins", ", ".join(metrics), step)
    if "fid" in metrics:
        require(len(pictures) >= FID_FEWEST, "fid", "have two pictures or more", len(pictures), "Leave fid out.")
    for metric in metrics:
        if metric in NETWORK_OF and NETWORK_OF[metric] not in networks:
            raise missing_weights(NETWORK_OF[metric])


def _centre(size: tuple[int, int] | None) -> Callable[[Tensor], Tensor]:
    """Cuts the centre of (width, height) out of [..., H, W]."""

    def cut(image: Tensor) -> Tensor:
        if size is None:
            return image
        width, height = size
        top, left = (image.shape[-2] - height) // 2, (image.shape[-1] - width) // 2
        return image[..., top : top + height, left : left + width]

    return cut
