"""Pictures and films of captures for the README: photos, photos only, this project.

python scripts/gallery.py CAPTURE... [--output docs/gallery]

Only captures whose licence allows pictures belong into the repository (benchmarks/results/README.md).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from fvgen.checks import require
from fvgen.command import run
from fvgen.files import whole_file
from fvgen_ns.report.finish import FILM, PICTURES

WIDTH = 360
"""Width of one picture, in pixels."""


@dataclass
class Gallery:
    """Train every capture, with photos only beside it, and write one picture and one film of each."""

    captures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that Nerfstudio can read."""
    output: Path = Path("docs/gallery")
    """Folder for pictures and films."""
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
    for capture in options.captures:
        name = capture.resolve().name
        folder = options.work / name / options.method / "run"
        if not (folder / "report.html").is_file():
            line = [str(Path(sys.executable).with_name("ns-train")), options.method, "--data", str(capture)]
            where = ["--output-dir", str(options.work), "--experiment-name", name, "--timestamp", "run"]
            code = subprocess.run([*line, *where, "--vis", "tensorboard", "--compare"], check=False).returncode
            require(code == 0, f"ns-train on {capture}", "succeed", f"exit code {code}", "Its message stands above.")
        _write(folder, options.output / f"{name}.jpg")
        shutil.copy(folder / FILM, options.output / f"{name}.mp4")
        print(f"{options.output / name}.jpg and .mp4")


def _write(folder: Path, path: Path) -> None:
    """The first and the middle held-out photo: photo, photos only, this run."""
    runs = (folder.with_name(f"{folder.name}-photos-only"), folder)
    photos, *renders = [
        sorted((run / PICTURES).glob(kind))
        for run, kind in ((folder, "photo_*.png"), *((run, "render_*.png") for run in runs))
    ]
    rows = []
    for i in dict.fromkeys((0, len(photos) // 2)):
        cells = [Image.open(kind[i]).convert("RGB") for kind in (photos, *renders)]
        height = round(WIDTH * cells[0].height / cells[0].width)
        rows.append(np.concatenate([np.asarray(cell.resize((WIDTH, height))) for cell in cells], axis=1))
    with whole_file(path) as unfinished:
        Image.fromarray(np.concatenate(rows)).save(unfinished, "JPEG", quality=88)


if __name__ == "__main__":
    sys.exit(main())
