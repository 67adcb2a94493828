"""Pictures and films of captures for the README: a held-out photo, photos only, this project.

python scripts/gallery.py CAPTURE... [--output docs/gallery]

Only captures whose licence allows pictures belong into the repository (benchmarks/results/README.md).
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import tyro
from PIL import Image

from fvgen.checks import require
from fvgen.command import run
from fvgen.files import store, whole_file
from fvgen_ns.report.figures import RunFigures
from fvgen_ns.report.finish import FILM, PICTURES

WIDTH = 360
"""Width of one picture, in pixels."""
_FPS = 12
"""Frames of a film in a second, as in a run's own."""
_HEAD = """# Gallery

Written by `scripts/gallery.py`. Real captures, `{method}`, one seed: the same photos trained alone and with what FVGen
adds, for as many steps. Each picture shows the first and the middle held-out photo, the splat from photos only, and the
splat with FVGen; each film is a flight along the training photos. No diffusion network made any of it.
[Who took the photos, and their licences](../../benchmarks/results/README.md).
"""


@dataclass
class Gallery:
    """Train every capture, with photos only beside it, and write a page with a picture and a film of each."""

    captures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that Nerfstudio can read."""
    output: Path = Path("docs/gallery")
    """Folder for the page, pictures and films."""
    work: Path = Path("outputs/gallery")
    """Folder for the runs. One that is finished is used again."""
    method: str = "fvgen-splat-cpu"
    """Nerfstudio method."""


def main() -> int:
    """The command."""
    return run(Gallery, gallery)


def gallery(options: Gallery) -> None:
    """Train what is not trained yet, then write.

    Raises:
        InputError: no captures, or a run failed.
    """
    require(len(options.captures) > 0, "CAPTURE", "be given", "none", "Name at least one folder.")
    sections = []
    for capture in options.captures:
        name = capture.resolve().name
        folder = options.work / name / options.method / "run"
        if not (folder / "report.html").is_file():
            line = [str(Path(sys.executable).with_name("ns-train")), options.method, "--data", str(capture)]
            where = ["--output-dir", str(options.work), "--experiment-name", name, "--timestamp", "run"]
            code = subprocess.run([*line, *where, "--vis", "tensorboard", "--compare"], check=False).returncode
            require(code == 0, f"ns-train on {capture}", "succeed", f"exit code {code}", "Its message stands above.")
        runs = (folder.with_name(f"{folder.name}-photos-only"), folder)
        _write_picture(runs, options.output / f"{name}.jpg")
        _write_film(runs, options.output / f"{name}.webp")
        sections.append(_section(name, runs))
        print(f"{options.output / name}.jpg and .webp")
    store(options.output / "README.md", "\n".join([_HEAD.format(method=options.method), *sections]).encode())


def _section(name: str, runs: tuple[Path, Path]) -> str:
    """The capture's part of the page: what the two runs measured, picture and film."""
    found = [RunFigures.read(run) for run in runs]
    alone, ours = (figures for figures in found if figures is not None)  # both runs have finished
    counts = f"{ours.counts['photos']} photos in, {ours.counts['steps']} steps"
    lines = [f"## {name}", "", f"{counts}. Means over {ours.photos}:", ""]
    lines += ["| | PSNR | SSIM | ST-LPIPS | AVGE | Gaussians |", "|---|---:|---:|---:|---:|---:|"]
    for title, figures in (("photos only", alone), ("FVGen", ours)):
        psnr, ssim, st_lpips, avge = (figures.metrics[key] for key in ("psnr", "ssim", "st_lpips", "avge"))
        lines.append(
            f"| {title} | {psnr:.2f} | {ssim:.3f} | {st_lpips:.3f} | {avge:.4f} | {figures.counts['Gaussians']:,} |"
        )
    lines += [
        "",
        f"![Held-out photo, photos only, FVGen]({name}.jpg)",
        "",
        f"![A flight: photos only, FVGen]({name}.webp)",
    ]
    return "\n".join([*lines, ""])


def _write_picture(runs: tuple[Path, Path], path: Path) -> None:
    """The first and the middle held-out photo: photo, photos only, this run."""
    photos, *renders = [
        sorted((run / PICTURES).glob(kind))
        for run, kind in ((runs[1], "photo_*.png"), *((run, "render_*.png") for run in runs))
    ]
    rows = []
    for i in dict.fromkeys((0, len(photos) // 2)):
        cells = [Image.open(kind[i]).convert("RGB") for kind in (photos, *renders)]
        height = round(WIDTH * cells[0].height / cells[0].width)
        rows.append(np.concatenate([np.asarray(cell.resize((WIDTH, height))) for cell in cells], axis=1))
    with whole_file(path) as unfinished:
        Image.fromarray(np.concatenate(rows)).save(unfinished, "JPEG", quality=88)


def _write_film(runs: tuple[Path, Path], path: Path) -> None:
    """A flight along the photos: photos only beside this run, as a picture that moves."""
    films = [[frame.to_ndarray(format="rgb24") for frame in av.open(run / FILM).decode(video=0)] for run in runs]
    frames = [Image.fromarray(np.concatenate(pair, axis=1)) for pair in zip(*films, strict=True)]
    with whole_file(path) as unfinished:
        frames[0].save(
            unfinished,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=1000 // _FPS,
            loop=0,
            quality=60,
            method=6,
        )


if __name__ == "__main__":
    sys.exit(main())
