"""Frames that a program has left behind: pictures in a folder, or films.

Known layouts: a plain folder of pictures; ``SCENE/color`` (pixelSplat, MVSplat, DepthSplat, MVSplat360), whose
``*_gt`` pictures are left out; ViewCrafter's output folder, whose ``diffusion*.mp4`` films follow one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from fvgen.checks import InputError, complaint, require

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
FILMS = frozenset({".mp4", ".mov", ".webm"})


Frame = Callable[[], Tensor]
"""Decodes a frame when it is called: [3, H, W] in [0, 1]."""


def read_frames(path: Path) -> dict[str, Frame]:
    """The frames of a folder or film, in natural order of their names: ``frame2`` before ``frame10``.

    Raises:
        InputError: there are none, or a film cannot be decoded.
    """
    step = "Name a folder of pictures or a film."
    require(path.exists(), "frames", "be there", path, step)
    if path.is_file() and path.suffix.lower() in FILMS:
        return _film(path, "")
    require(path.is_dir(), "frames", "be a folder of pictures or a film", path, step)
    films = sorted(path.glob("diffusion*.mp4"), key=lambda film: _natural(film.name))
    if films:
        return {name: frame for film in films for name, frame in _film(film, f"{film.stem}-").items()}
    folder = path / "color" if (path / "color").is_dir() else path
    pictures = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.stem.endswith("_gt")]
    require(bool(pictures), "frames", "be pictures (PNG, JPEG, WebP) or a film", f"none in {folder}", step)
    return {p.stem: partial(_picture, p) for p in sorted(pictures, key=lambda p: _natural(p.name))}


def match_frames(
    drawn: Mapping[str, Frame], real: Mapping[str, Frame], drawn_place: Path, real_place: Path
) -> tuple[list[tuple[str, str]], str]:
    """Which frame shows which real one, and by what rule.

    Rules, the first that serves all drawn frames: equal names; a number that counts the real frames from 0, as
    DepthSplat writes; equal counts, in order.

    Raises:
        InputError: no rule serves.
    """
    names = list(real)
    if all(name in real for name in drawn):
        return [(name, name) for name in drawn], "name"
    numbers = [int(name) if name.isdigit() else -1 for name in drawn]
    if all(0 <= number < len(names) for number in numbers):
        return [(name, names[number]) for name, number in zip(drawn, numbers, strict=True)], "index"
    if len(drawn) == len(real):
        return list(zip(drawn, real, strict=True)), "order"
    rule = f"bear the names of those in {real_place}, count them from 0, or be as many ({len(real)})"
    step = "Leave the pictures that belong together in both."
    raise InputError(complaint(f"frames of {drawn_place}", rule, f"{len(drawn)}, {next(iter(drawn))} first", step))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _picture(path: Path) -> Tensor:
    data = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR)
    if data is None:
        raise InputError(complaint(f"picture {path}", "be readable", "a damaged file", "Write it again."))
    return _tensor(cv2.cvtColor(data, cv2.COLOR_BGR2RGB))


def _film(path: Path, prefix: str) -> dict[str, Frame]:
    import av

    try:
        with av.open(str(path)) as film:
            decoded = [_tensor(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        text = complaint(f"film {path}", "be readable", f"'{error}'", "Write it again, or give its frames as pictures.")
        raise InputError(text) from error
    require(bool(decoded), f"film {path}", "hold frames", "none", "Write it again.")
    return {f"{prefix}{i:06d}": partial(decoded.__getitem__, i) for i in range(len(decoded))}


def _tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
