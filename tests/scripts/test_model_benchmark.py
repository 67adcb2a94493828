"""benchmarks/model.py: its options, and the figure that costs nothing to count."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import tyro

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "model.py"


@pytest.fixture
def benchmark(monkeypatch):
    """Runs the benchmark with a command line, in this process."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # where it lies beside what it imports
    spec = importlib.util.spec_from_file_location("model_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)  # dataclasses look their module up
    spec.loader.exec_module(script)
    return lambda *words: script.main(tyro.cli(script.Options, args=[*map(str, words)]))


def test_the_size_is_the_originals(benchmark, capsys):
    benchmark("--only", "size", "--print-json")
    figures = json.loads(capsys.readouterr().out)
    assert {figure["name"]: figure["value"] for figure in figures} == {
        "UNet parameters": 1_438_854_980,
        "UNet tensors": 1516,
    }
    assert all(figure["reached"] for figure in figures)


def test_an_unknown_measurement_is_refused(benchmark, tmp_path):
    with pytest.raises(SystemExit, match=r"--only must name measurements, got \['speed'\]\. Choose among \['size',"):
        benchmark("--only", "speed", "--output", tmp_path / "figures.json")
    assert not (tmp_path / "figures.json").exists()
