"""Captures that must be unpacked or converted first: recognised by what they hold."""

from __future__ import annotations

import re
import shlex
import zipfile
from itertools import chain
from pathlib import Path, PurePosixPath

from fvgen.checks import InputError, complaint

_CAPTURE = "a capture (transforms.json, a COLMAP model, transforms_train.json, reconstruction.json or keyframes)"
_DESCRIPTIONS = ("transforms.json", "transforms_train.json", "reconstruction.json", "cameras.bin", "cameras.txt")
"""Files that say where photos were taken."""
_HEAD_BYTES = 2000
"""First bytes of a file, in which its kind shows."""
_HEAD_LINES = 5
"""First lines of a table, among which its columns are named."""


def not_a_capture(path: Path) -> InputError:
    """The error that says what ``path`` is, as far as that can be seen, and the command that makes a capture of it."""
    made = "Make one of photos or a video: fvgen poses PHOTOS CAPTURE"
    return of_another_tool(path) or InputError(complaint("--data", f"be {_CAPTURE}", path, made))


def of_another_tool(path: Path) -> InputError | None:
    """The error that says which tool's capture ``path`` is, and how to convert it; None where it is none."""
    folder = path if path.is_dir() else path.parent
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        for recognise in (_record3d, _metashape, _reality_capture, _packed, _capture_below, _half_a_model):
            found = recognise(folder, file)
            if found is not None:
                return InputError(complaint("--data", f"be {_CAPTURE}", *found))
    if (path.parent / "transforms.json").is_file() or (path.parent / "sparse").is_dir():
        whole = f"Give the capture: --data {shlex.quote(str(path.parent))}."
        return InputError(complaint("--data", f"be {_CAPTURE}", f"{path}, a part of one", whole))
    return None


def _convert(tool: str, photos: Path, *more: str | Path) -> str:
    words = ["ns-process-data", tool, "--data", photos, *more, "--output-dir", "CAPTURE"]
    return f"Convert it: {shlex.join(map(str, words))}, then give --data CAPTURE."


def _record3d(folder: Path, file: Path) -> tuple[str, str] | None:
    if file.suffix.lower() == ".r3d":
        export = "Export it from the app as 'EXR + RGB sequence'. "
        return f"{file}, a Record3D capture", export + _convert("record3d", Path("EXPORT"))
    for place in (folder, file):
        if (place / "metadata.json").is_file() and (place / "rgb").is_dir():
            return f"{place}, an export of Record3D", _convert("record3d", place)
    return None


def _metashape(folder: Path, file: Path) -> tuple[str, str] | None:
    if file.suffix.lower() == ".xml" and "<document" in _head(file) and "<chunk" in _head(file):
        return f"{file}, cameras of Metashape", _convert("metashape", folder, "--xml", file)
    return None


def _reality_capture(folder: Path, file: Path) -> tuple[str, str] | None:
    if file.suffix.lower() not in (".csv", ".txt"):
        return None
    for line in _head(file).lower().splitlines()[:_HEAD_LINES]:
        columns = {column.strip(' "#') for column in re.split("[,;\t]", line)}
        if {"pitch", "roll"} <= columns and columns & {"heading", "yaw"}:
            with_commas = "" if "," in line else "Export it with commas between the columns. "
            convert = _convert("realitycapture", folder, "--csv", file)
            return f"{file}, cameras of RealityCapture", with_commas + convert
    return None


def _packed(folder: Path, file: Path) -> tuple[str, str] | None:
    if file.suffix.lower() != ".zip" or not zipfile.is_zipfile(file):
        return None
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.startswith("keyframes/") or "/keyframes/" in name for name in names):
        what = "a raw export of Polycam"
    elif any(PurePosixPath(name).name in _DESCRIPTIONS for name in names):
        what = "a packed capture"
    else:
        return None
    return f"{file}, {what}", f"Unpack it: unzip {shlex.quote(str(file))} -d CAPTURE, then give --data CAPTURE."


def _capture_below(folder: Path, file: Path) -> tuple[str, str] | None:
    described = any((file / name).is_file() for name in _DESCRIPTIONS)
    if described or any((file / name).is_dir() for name in ("sparse", "keyframes")):
        return f"{folder}, which holds captures", f"Give one of them: --data {shlex.quote(str(file))}."
    return None


def _half_a_model(folder: Path, file: Path) -> tuple[str, str] | None:
    files = [file] if file.is_file() else sorted(chain(file.glob("*.bin"), file.glob("*/*.bin")))
    for half, other in (("cameras.bin", "images.bin"), ("images.bin", "cameras.bin")):
        for one in files:
            if one.name == half and not one.with_name(other).is_file():
                copy = f"Copy {other} beside it, or move it away to have poses found anew."
                return f"{one}, half of a COLMAP model", copy
    return None


def _head(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as opened:
        return opened.read(_HEAD_BYTES).decode("utf-8-sig", "replace")
