"""The main job, start to end, with Nerfstudio's own commands: photos only beside FVGen, measured on held-out photos.

Where no photos are held out, the figures are of the training photos, and everything that is shown says so.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fvgen.devices import default_device, is_gpu

PHOTOS_ONLY = ["--geometry", "none", "--generator", "none"]
"""Options that switch off all that FVGen adds."""
LONG = 3000
"""Steps of a second run on photos alone, where the first has fewer: 600 are too few for these, and would flatter us."""
PICTURE_ROWS = 6
"""Most photos shown in the picture."""


@dataclass
class Demo:
    """Train a splat from photos alone and one with FVGen, and compare both on held-out photos, if there are any."""

    data: Annotated[Path | None, tyro.conf.Positional] = None
    """Capture that Nerfstudio can read, or a folder of photos, a video, or a zip archive of either. Without one, a
    procedural room with 6 photos is made."""
    output: Path = Path("demo")
    """Folder for everything that is made."""
    method: str = "fvgen-splat" if is_gpu(default_device()) else "fvgen-splat-cpu"
    """Nerfstudio method: fvgen-splat, or fvgen-splat-cpu for the quick one."""


def main(demo: Demo) -> None:
    """Run the demo.

    Raises:
        SystemExit: when one of the commands fails; its own message stands above.
    """
    console = Console()
    start = time.time()
    data = demo.data or _room(demo.output / "room", console)
    configs = {"photos only": _train(demo, data, "photos-only", PHOTOS_ONLY, console)}
    if _steps(configs["photos only"]) < LONG:
        longer = [*PHOTOS_ONLY, "--max-num-iterations", str(LONG)]
        configs[f"photos only, {LONG} steps"] = _train(demo, data, "photos-only-longer", longer, console)
    configs["ours"] = _train(demo, data, "fvgen", [], console)
    scores = {name: _evaluate(config, console) for name, config in configs.items()}
    export = demo.output / _label(data) / "splat"
    _run("ns-export", ["gaussian-splat", "--load-config", str(configs["ours"]), "--output-dir", str(export)], console)
    picture = _side_by_side(list(configs.values()), demo.output / _label(data) / "side_by_side.png")

    notes, compared = _notes(configs["ours"])
    table = Table(title=escape(f"{_label(data)}: {compared}"))
    for column in ("", "PSNR", "SSIM", "PSNR after colour fit"):
        table.add_column(column)
    for name, score in scores.items():
        table.add_row(name, f"{score['psnr']:.2f} dB", f"{score['ssim']:.3f}", f"{score['psnr_affine']:.2f} dB")
    console.print(table)
    for note in notes:
        console.print(f"[yellow]Note:[/yellow] {escape(note)}")
    viewer = [_command("ns-viewer"), "--load-config", str(configs["ours"]), "--viewer.websocket-host", "127.0.0.1"]
    for line in (
        f"Side by side, {compared} (photo | {' | '.join(configs)}): {picture}",
        f"Splat: {export / 'splat.ply'}",
        f"Open the viewer: {shlex.join(viewer)}",
        f"Took {time.time() - start:.0f} s",
    ):
        console.print(line, soft_wrap=True, markup=False)


def _room(folder: Path, console: Console) -> Path:
    from fvgen.procedural.rooms.capture import write_room_capture

    if not (folder / "transforms.json").exists():
        console.print(f"Making the demo capture in {folder}", markup=False)
        write_room_capture(folder, seed=0)
    return folder


def _label(data: Path) -> str:
    path = data.resolve()
    return path.stem if path.is_file() else path.name


def _command(name: str) -> str:
    """Nerfstudio's command of the environment that this script runs in."""
    return str(Path(sys.executable).parent / name)


def _run(name: str, arguments: list[str], console: Console) -> None:
    console.rule(escape(shlex.join([name, *arguments])), align="left")
    # Nerfstudio warns of PyTorch's plans while it is imported, before the plugin can tell it not to.
    environment = os.environ | {"PYTHONWARNINGS": "ignore::FutureWarning"}
    code = subprocess.run([_command(name), *arguments], env=environment, check=False).returncode
    if code:
        raise SystemExit(code)


def _train(demo: Demo, data: Path, experiment: str, options: list[str], console: Console) -> Path:
    """Train one splat; its config.yml."""
    where = ["--output-dir", str(demo.output), "--experiment-name", _label(data), "--timestamp", experiment]
    shown = ["--vis", "tensorboard"]
    _run("ns-train", [demo.method, "--data", str(data), *where, *shown, *options], console)
    return demo.output / _label(data) / demo.method / experiment / "config.yml"


def _steps(config: Path) -> int:
    """How many steps a run has trained."""
    checkpoints = (config.parent / "nerfstudio_models").glob("step-*.ckpt")
    return 1 + max(int(path.stem.removeprefix("step-")) for path in checkpoints)


def _evaluate(config: Path, console: Console) -> dict[str, float]:
    """Mean metrics over the photos that are compared with, and the renders beside the config."""
    result = config.parent / "eval.json"
    pictures = ["--render-output-path", str(config.parent / "eval")]
    _run("ns-eval", ["--load-config", str(config), "--output-path", str(result), *pictures], console)
    return json.loads(result.read_text())["results"]


def _side_by_side(configs: list[Path], path: Path) -> Path:
    """A picture with a row for each photo that is compared with: the photo, then each run's render of it."""
    rows = []
    for first in sorted((configs[0].parent / "eval").glob("*_img_*.png"))[:PICTURE_ROWS]:
        pairs = [np.asarray(Image.open(config.parent / "eval" / first.name)) for config in configs]
        width = pairs[0].shape[1] // 2  # ns-eval writes photo and render beside one another
        rows.append(np.concatenate([pairs[0][:, :width], *(pair[:, width:] for pair in pairs)], axis=1))
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, widest - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(padded)).save(path)
    return path


def _notes(config: Path) -> tuple[list[str], str]:
    """What the user should know of a run, and which photos its figures are of."""
    from fvgen_ns.fvgen_trainer import NOTES_FILE
    from fvgen_ns.training_inputs import NOTHING_HELD_OUT

    notes = json.loads((config.parent / NOTES_FILE).read_text())
    return notes, "training photos" if NOTHING_HELD_OUT in notes else "held-out photos"


if __name__ == "__main__":
    main(tyro.cli(Demo))
