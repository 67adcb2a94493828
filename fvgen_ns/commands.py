"""What Nerfstudio's commands cannot do with a splat of this plugin: refused in one line.

Their own checks come later and end in tracebacks, and they tell a pipeline nothing of what they are about to do.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro
from nerfstudio.data.scene_box import OrientedBox
from torch import Tensor

from fvgen.checks import InputError, complaint, require

_MODULES = {"ns-render": "nerfstudio.scripts.render", "ns-export": "nerfstudio.scripts.exporter"}
_NEEDS_RAYS = {
    "SpiralRender": ("ns-render spiral", "Use ns-render interpolate --pose-source train, or ns-render camera-path."),
    "ExportPointCloud": ("ns-export pointcloud", "Use ns-export gaussian-splat."),
    "ExportTSDFMesh": ("ns-export tsdf", "Use ns-export gaussian-splat."),
    "ExportPoissonMesh": ("ns-export poisson", "Use ns-export gaussian-splat."),
    "ExportMarchingCubesMesh": ("ns-export marching-cubes", "Use ns-export gaussian-splat."),
}
"""Nerfstudio's class of a command that asks a method along rays -> what it is called, and what to use instead."""


def running_command() -> Any | None:
    """The options of the ns-render or ns-export that this process runs, as Nerfstudio parses them; None in others."""
    called = Path(sys.argv[0])
    module = _MODULES.get(called.name)
    if called.parts[-3:-1] == ("nerfstudio", "scripts"):  # python -m nerfstudio.scripts.render
        module = next((name for name in _MODULES.values() if name.endswith(f".{called.stem}")), None)
    return None if module is None else tyro.cli(import_module(module).Commands, args=sys.argv[1:])


def refuse_unable(command: Any) -> None:
    """Refuse a command that could not work, before anything is read.

    Raises:
        InputError: saying what to use instead.
    """
    kind = type(command).__name__
    if kind in _NEEDS_RAYS:
        name, next_step = _NEEDS_RAYS[kind]
        raise InputError(complaint(name, "have a method that can be asked along a ray", "a Gaussian splat", next_step))
    if kind == "ExportGaussianSplat":
        given = [name for name, value in _box(command).items() if value is not None]
        require(
            len(given) in (0, 3),
            "the box of --obb-center, --obb-rotation and --obb-scale",
            "be given by all three",
            "only " + " and ".join(f"--obb-{name}" for name in given),
            "Name the others too: --obb-rotation 0 0 0 does not turn the box.",
        )


def refuse_short_path(command: Any, held_out: int) -> None:
    """Refuse to interpolate between fewer than two held-out photos.

    Raises:
        InputError: so it is.
    """
    if type(command).__name__ == "RenderInterpolated" and command.pose_source == "eval":
        enough = "have two held-out photos or more to go between"
        require(held_out >= 2, "--pose-source eval", enough, held_out, "Use --pose-source train.")


def refuse_empty_box(command: Any, means: Tensor) -> None:
    """Refuse to export a box that holds none of the Gaussians with centres [N, 3].

    Raises:
        InputError: so it is.
    """
    if type(command).__name__ == "ExportGaussianSplat" and command.obb_center is not None:
        box = _box(command)
        inside = OrientedBox.from_params(box["center"], box["rotation"], box["scale"]).within(means.detach().cpu())
        low, high = (getattr(means, name)(dim=0).values.tolist() for name in ("min", "max"))
        extent = f"Gaussians lie from {_rounded(low)} to {_rounded(high)}."
        require(bool(inside.any()), "the box of --obb-center", "hold a Gaussian", box["center"], extent)


def _box(command: Any) -> dict[str, Any]:
    return {name: getattr(command, f"obb_{name}") for name in ("center", "rotation", "scale")}


def _rounded(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
