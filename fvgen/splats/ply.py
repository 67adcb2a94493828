"""Splats as PLY files, in the layout of 3D Gaussian Splatting that every viewer reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require
from fvgen.files import whole_file
from fvgen.splats.gaussians import Gaussians

_SCALES, _ROTATIONS = [f"scale_{i}" for i in range(3)], [f"rot_{i}" for i in range(4)]
_AGAIN = "Export the splat again."


def write_splat(path: Path, gaussians: Gaussians) -> None:
    """Write a binary PLY; whole or not at all.

    Args:
        path: the file.
        gaussians: N, every number of them finite.

    Raises:
        InputError: there are none, or some are not finite.
        OSError: the folder cannot be written.
    """
    from plyfile import PlyData, PlyElement

    require(len(gaussians) > 0, "the splat", "have Gaussians", "none", "Leave out fewer.")
    broken = int((~gaussians.finite()).sum())
    require(broken == 0, "the splat", "have finite numbers alone", f"{broken} Gaussians with others", "Leave them out.")
    rest = gaussians.sh[:, 1:].transpose(1, 2).flatten(1)  # all of red, then green, then blue
    columns = {
        **dict(zip("xyz", gaussians.means.T, strict=True)),
        **{name: torch.zeros(len(gaussians)) for name in ("nx", "ny", "nz")},
        **{f"f_dc_{i}": gaussians.sh[:, 0, i] for i in range(3)},
        **{f"f_rest_{i}": column for i, column in enumerate(rest.T)},
        "opacity": gaussians.opacities,
        **dict(zip(_SCALES, gaussians.scales.T, strict=True)),
        **dict(zip(_ROTATIONS, gaussians.quats.T, strict=True)),
    }
    rows = np.empty(len(gaussians), dtype=[(name, "<f4") for name in columns])
    for name, column in columns.items():
        rows[name] = column.detach().cpu().numpy()
    with whole_file(path) as unfinished:
        PlyData([PlyElement.describe(rows, "vertex")], byte_order="<").write(str(unfinished))


def read_splat(path: Path) -> Gaussians:
    """The splat of a PLY file, float32 on the CPU.

    Raises:
        InputError: no such file, no PLY, or one without the columns of a splat.
    """
    from plyfile import PlyData, PlyParseError

    require(path.is_file(), str(path), "be a PLY file", "no such file", "Check the path.")
    try:
        elements = {element.name: element.data for element in PlyData.read(str(path))}
    except (PlyParseError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise InputError(complaint(str(path), "be a complete PLY file", f"'{error}'", _AGAIN)) from error
    rows = elements.get("vertex", np.empty(0, dtype=[]))
    names = rows.dtype.names or ()
    rest = sorted((name for name in names if name.startswith("f_rest_")), key=lambda name: int(name[7:]))
    needed = {*"xyz", "opacity", *(f"f_dc_{i}" for i in range(3)), *_SCALES, *_ROTATIONS}
    missing = sorted(needed - set(names))
    require(not missing, str(path), "have the columns of a splat", f"none called {', '.join(missing)}", _AGAIN)

    def stacked(columns: list[str]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(rows[name], np.float32) for name in columns], axis=1))

    dc = stacked([f"f_dc_{i}" for i in range(3)])[:, None]
    bands = stacked(rest).unflatten(1, (3, len(rest) // 3)).transpose(1, 2) if rest else dc[:, :0]
    return Gaussians(
        stacked(list("xyz")),
        stacked(_ROTATIONS),
        stacked(_SCALES),
        stacked(["opacity"])[:, 0],
        torch.cat([dc, bands], 1),
    )
