"""What a finished run is measured by: its photos compared with their renders, a film, times and counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fvgen.files import read_json, write_json
from fvgen.geometry.trajectory import PATH_STYLES
from fvgen.rendering.splat_rasterizer import resolve
from fvgen.types import Cameras
from fvgen_ns.frames import to_fvgen
from fvgen_ns.report.plain_words import plain
from fvgen_ns.training_inputs import NOTHING_HELD_OUT

if TYPE_CHECKING:
    from fvgen_ns.fvgen_datamanager import FVGenDataManager
    from fvgen_ns.fvgen_model import FVGenModel

FIGURES_FILE = "fvgen_figures.json"
"""Beside config.yml: the figures of a finished run."""
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "st_lpips": "ST-LPIPS"}
_FILM_FRAMES = 48
_FILM_SIZE = 480
"""Longest side of the film, in pixels."""


@dataclass(frozen=True)
class RunFigures:
    """Figures of a finished run."""

    photos: str
    """Which photos the metrics are of: held-out photos, or training photos where none are held out."""
    metrics: dict[str, float]
    """Means over those photos."""
    seconds: dict[str, float]
    """Seconds by part."""
    counts: dict[str, int]
    """Photos and views that were trained on, steps, Gaussians."""
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Store them beside the run's config."""
        write_json(folder / FIGURES_FILE, asdict(self))

    @staticmethod
    def read(folder: Path) -> RunFigures | None:
        """Figures of a run's folder; None where it has not finished."""
        found = read_json(folder / FIGURES_FILE)
        return None if found is None else RunFigures(**found)


@dataclass(frozen=True)
class ComparedPhoto:
    """A photo and what the splat shows in its place, both [3, H, W] on the CPU."""

    name: str
    photo: Tensor
    render: Tensor
    metrics: dict[str, float]


@torch.no_grad()
def compare_photos(model: FVGenModel, manager: FVGenDataManager) -> list[ComparedPhoto]:
    """Every photo to compare with, beside its render."""
    model.eval()
    compared = []
    names = [path.name for path in manager.eval_dataset.image_filenames]
    for name, (camera, batch) in zip(names, manager.fixed_indices_eval_dataloader, strict=True):
        outputs = model.get_outputs_for_camera(camera)
        metrics, pictures = model.get_image_metrics_and_images(outputs, batch)
        photo, render = pictures["img"].cpu().permute(2, 0, 1).chunk(2, dim=2)
        compared.append(ComparedPhoto(name, photo, render, metrics))
    return compared


@torch.no_grad()
def film_of(model: FVGenModel, manager: FVGenDataManager) -> Tensor:
    """[F, 3, H, W] a flight along the training photos."""
    photos = [i for i, is_photo in enumerate(manager.is_photo) if is_photo]
    found = [manager.train_dataset.cameras[i : i + 1] for i in photos]
    sizes = [(int(camera.height), int(camera.width)) for camera in found]
    alike = [camera for camera, size in zip(found, sizes, strict=True) if size == sizes[0]]
    parts = [to_fvgen(camera, *sizes[0]) for camera in alike]
    cameras = Cameras(torch.cat([c.c2w for c in parts]), torch.cat([c.K for c in parts]), *sizes[0])
    if len(cameras) < 2:
        return torch.zeros(0, 3, *sizes[0])
    cameras = cameras.resized(*cameras.size_within(_FILM_SIZE))
    path = PATH_STYLES["between"](cameras.to("cpu"), None).cameras
    chosen = path[torch.linspace(0, len(path) - 1, min(_FILM_FRAMES, len(path))).round().long()].to(model.device)
    gaussians = cast(Any, model).gaussians()
    rasterizer, background = resolve(model.config.rasterizer, model.device), model.background_color.to(model.device)
    parts_of = (gaussians.means, gaussians.quats, gaussians.scales.exp(), gaussians.opacities.sigmoid(), gaussians.sh)
    frames = [rasterizer.rasterize(*parts_of, chosen[i], gaussians.degree, background).rgb for i in range(len(chosen))]
    return torch.cat(frames).permute(0, 3, 1, 2).clamp(0, 1).cpu()


def figures_of(
    model: FVGenModel, manager: FVGenDataManager, compared: list[ComparedPhoto], seconds: dict[str, float], steps: int
) -> RunFigures:
    """The figures of a run whose photos have been compared."""
    names = compared[0].metrics if compared else {}
    counts = {
        "photos": sum(manager.is_photo),
        "generated views": len(manager.is_photo) - sum(manager.is_photo),
        "steps": steps,
        "Gaussians": model.num_points,
    }
    return RunFigures(
        photos="training photos" if NOTHING_HELD_OUT in manager.notes else "held-out photos",
        metrics={name: sum(one.metrics[name] for one in compared) / len(compared) for name in names},
        seconds=seconds,
        counts=counts,
        notes=[plain(note) for note in manager.notes if note != NOTHING_HELD_OUT],
    )
