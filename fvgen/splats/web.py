"""Splats for the browser: spz, sog and self-contained pages, made by PlayCanvas' splat-transform (MIT, a Node program).

It is never fetched without being asked for: a splat-transform on the PATH is taken, or one that npx has already.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fvgen.checks import InputError, complaint
from fvgen.files import whole_file
from fvgen.types import Cameras

PACKAGE = "@playcanvas/splat-transform"
FORMATS = (".spz", ".sog", ".html")
"""Suffixes of the files that it writes here."""
_OPTIONS = {".sog": ["--gpu", "cpu"], ".html": ["--gpu", "cpu", "--iterations", "2"]}
"""Compression on the CPU runs anywhere. Two rounds over the harmonics leave their error as it is after ten, the default
(0.0090 rms on a real splat, of 0.0265), and take a quarter of the time."""
_ACTIONS = {".sog": ["--filter-harmonics", "0"]}
_SECONDS = 1800


def convert_splat(ply: Path, output: Path, camera: Cameras | None = None) -> None:
    """Write a splat in one of `FORMATS`, whole or not at all.

    Args:
        ply: the splat, upright (`fvgen.splats.upright`).
        output: file to write; its suffix says how.
        camera: one camera in the frame of ``ply``, where a page opens; the viewer's own choice when not given.

    Raises:
        InputError: splat-transform is not on this machine, or fails; the text names the command.
        OSError: the folder cannot be written.
    """
    command = _splat_transform(ply, output)
    with tempfile.TemporaryDirectory() as scratch, whole_file(output) as unfinished:
        options = [*_OPTIONS.get(output.suffix, [])]
        if output.suffix == ".html" and camera is not None:
            settings = Path(scratch) / "settings.json"
            settings.write_text(json.dumps(page_settings(camera)))
            options += ["--viewer-settings", str(settings)]
        written = Path(scratch) / f"splat{output.suffix}"  # splat-transform goes by the suffix
        line = [*command, "--quiet", *options, str(ply), *_ACTIONS.get(output.suffix, []), str(written)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode or not written.is_file():
            cause = " ".join((done.stderr or done.stdout).split())[-300:]
            rule = f"be written by {PACKAGE}"
            raise InputError(complaint(str(output), rule, f"'{cause}'", f"The splat lies in {ply}."))
        shutil.move(written, unfinished)


def page_settings(camera: Cameras) -> dict[str, object]:
    """Settings of a page that opens at a camera, looking at the middle of its picture.

    A page has no roll. PlayCanvas turns a splat half round about z when it loads it.
    """
    c2w, K = camera.c2w[0].double().cpu(), camera.K[0].double().cpu()
    middle = torch.tensor([camera.width / 2, camera.height / 2, 1.0], dtype=torch.float64)
    towards = c2w[:3, :3] @ torch.linalg.solve(K, middle)
    longest, focal = max((camera.width, K[0, 0]), (camera.height, K[1, 1]))
    fov = math.degrees(2 * math.atan(float(longest / 2 / focal)))  # across the longer side

    def loaded(point: Tensor) -> Sequence[float]:
        x, y, z = point.tolist()
        return [-x, -y, z]

    first = {"position": loaded(c2w[:3, 3]), "target": loaded(c2w[:3, 3] + towards), "fov": fov}
    return {
        "version": 2,
        "tonemapping": "none",
        "highPrecisionRendering": False,
        "background": {"color": [0.15, 0.16, 0.22]},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 1, "blurLevel": 2},
            "grading": {"enabled": False, "brightness": 0, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0.5},
        },
        "animTracks": [],
        "cameras": [{"initial": first}],
        "annotations": [],
        "startMode": "default",
    }


def _splat_transform(ply: Path, output: Path) -> list[str]:
    """The command that runs it."""
    if found := shutil.which("splat-transform"):
        return [found]
    if npx := shutil.which("npx"):
        here = [npx, "--no", PACKAGE]  # takes what is installed or cached, fetches nothing
        if subprocess.run([*here, "--version"], capture_output=True, timeout=120, check=False).returncode == 0:
            return here
    line = " ".join(["npx", PACKAGE, str(ply), *_ACTIONS.get(output.suffix, []), str(output)])
    raise InputError(complaint(output.suffix, f"be written by {PACKAGE}", "a machine without it", f"Run: {line}"))
