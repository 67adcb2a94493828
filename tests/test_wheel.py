"""The wheel, in an environment that knows nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fvgen", "fvgen_ns")
SITE = Path(sysconfig.get_path("purelib"))


def run(*command: object, cwd: Path) -> str:
    """What a command prints; without the variable that puts a checkout before what is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [str(part) for part in command]
    done = subprocess.run(line, cwd=cwd, env=environment, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: setuptools leaves folders behind, and takes up what it left the last time."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel) -> Path:
    """The Python of an environment with the wheel and everything that the tests' environment has, but for what was
    installed there from this checkout: Python reads the .pth file of an editable install in its own folder alone."""
    environment = wheel.parent / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=wheel.parent)
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel, cwd=wheel.parent)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "tests_environment.pth").write_text(f"{SITE}\n")
    return python


def test_it_holds_every_module_and_the_bundled_weights(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in (".py", ".typed", ".json", ".safetensors", ".md")
    }
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected


def test_nerfstudio_finds_the_method_in_it_and_shows_its_options(python, tmp_path):
    """All as ``ns-train`` does, in one process: it takes seconds to import what it needs."""
    code = """
import contextlib, sys
from importlib.metadata import entry_points
import fvgen
from fvgen.models.find import BUNDLED
from nerfstudio.scripts.train import entrypoint
(method,) = entry_points(group="nerfstudio.method_configs", name="fvgen-splat")
sys.argv = ["ns-train", "fvgen-splat", "--help"]
with contextlib.suppress(SystemExit):
    entrypoint()
print(fvgen.__file__, sys.modules[method.module].__file__, BUNDLED / "student", sep="\\n")
"""
    *shown, package, plugin, bundled = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert "--pipeline.datamanager.densify.generator" in "\n".join(shown)
    for place in (package, plugin, bundled):
        assert Path(place).exists() and Path(place).is_relative_to(python.parents[1])


def test_the_command_lists_and_loads_its_parts(python, tmp_path):
    fvgen = python.with_name("fvgen")
    assert "Prepare training clips" in run(fvgen, "--help", cwd=tmp_path)
    assert "Folder to write the shards to." in run(fvgen, "clips", "procedural", "--help", cwd=tmp_path)
