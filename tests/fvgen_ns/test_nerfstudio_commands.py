"""What ns-render and ns-export cannot do with a splat, recognised by their command line."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest
import torch

from fvgen.checks import InputError
from fvgen_ns.commands import refuse_empty_box, refuse_short_path, refuse_unable, running_command


def parsed(monkeypatch, line: str):
    """The command of a line as the process that runs it sees it."""
    monkeypatch.setattr(sys, "argv", line.split())
    return running_command()


CONFIG = "--load-config run/config.yml"
BOX = "--obb-center {} 0 0 --obb-rotation 0 0 0 --obb-scale 1 1 1"


@pytest.fixture(scope="module")
def exporter():
    try:
        return import_module("nerfstudio.scripts.exporter")
    except ImportError as error:
        pytest.skip(f"ns-export does not start on this machine: {error}")


@pytest.mark.parametrize("program", ["/venv/bin/ns-render", "/site-packages/nerfstudio/scripts/render.py"])
def test_a_path_that_needs_rays_is_refused(monkeypatch, program):
    with pytest.raises(InputError, match=r"ns-render spiral must have .* Use ns-render interpolate"):
        refuse_unable(parsed(monkeypatch, f"{program} spiral {CONFIG}"))


@pytest.mark.parametrize("line", ["ns-train fvgen-splat", "render.py spiral", "pytest -x"])
def test_other_programs_are_left_alone(monkeypatch, line):
    command = parsed(monkeypatch, line)
    assert command is None
    refuse_unable(command)
    refuse_short_path(command, 0)
    refuse_empty_box(command, torch.zeros(0, 3))


@pytest.mark.parametrize(
    ("source", "held_out", "refused"), [("", 1, True), ("", 2, False), ("--pose-source train", 0, False)]
)
def test_one_held_out_photo_gives_no_path(monkeypatch, source, held_out, refused):
    command = parsed(monkeypatch, f"ns-render interpolate {CONFIG} {source}")
    refuse_unable(command)
    if refused:
        with pytest.raises(InputError, match=r"--pose-source eval must have two .* got 1\. Use --pose-source train"):
            refuse_short_path(command, held_out)
    else:
        refuse_short_path(command, held_out)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pointcloud", "ns-export pointcloud must have"),
        ("poisson", "ns-export poisson must have"),
        ("marching-cubes", "ns-export marching-cubes must have"),
        ("tsdf", "ns-export tsdf must have"),
        ("gaussian-splat --obb-scale 1 1 1", "must be given by all three, got only --obb-scale"),
        ("gaussian-splat --obb-center 1 1 1 --obb-scale 1 1 1", "got only --obb-center and --obb-scale"),
    ],
)
def test_exports_that_cannot_work_are_refused(exporter, monkeypatch, line, message):
    with pytest.raises(InputError, match=message):
        refuse_unable(parsed(monkeypatch, f"ns-export {line} {CONFIG} --output-dir out"))


def test_a_box_must_hold_a_gaussian(exporter, monkeypatch):
    means = torch.tensor([[0.0, 0, 0], [3, 1, 0]])
    for line in ("", BOX.format(0.3)):
        command = parsed(monkeypatch, f"ns-export gaussian-splat {line} {CONFIG} --output-dir out")
        refuse_unable(command)
        refuse_empty_box(command, means)
    command = parsed(monkeypatch, f"ns-export gaussian-splat {BOX.format(90)} {CONFIG} --output-dir out")
    with pytest.raises(
        InputError, match=r"must hold a Gaussian, got .*lie from 0\.00 0\.00 0\.00 to 3\.00 1\.00 0\.00"
    ):
        refuse_empty_box(command, means)
