"""The names that ``import fvgen`` promises, and what it costs."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import fvgen

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", sorted(set(fvgen.__all__) - {"__version__"}))
def test_a_name_is_what_its_module_defines(name):
    value = getattr(fvgen, name)
    home = getattr(value, "__module__", None)
    assert home is None or home.startswith(("fvgen.", "types", "collections")), home
    assert getattr(fvgen, name) is value


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse((ROOT / "fvgen/__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == {name: f"fvgen.{module}" for name, module in fvgen._MODULES.items()}
    assert set(fvgen.__all__) == {*seen, "__version__"}
    assert (ROOT / "fvgen/py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fvgen.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from fvgen import nothing  # noqa: F401


def test_names_are_listed():
    assert set(fvgen.__all__) <= set(dir(fvgen))


def test_importing_takes_less_than_50_ms_and_no_torch():
    code = "import sys, time; t = time.perf_counter(); import fvgen; print(time.perf_counter() - t, *sys.modules)"
    seconds = []
    for _ in range(5):
        printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        took, *modules = printed.stdout.split()
        assert "torch" not in modules
        seconds.append(float(took))
    assert statistics.median(seconds) < 0.05
