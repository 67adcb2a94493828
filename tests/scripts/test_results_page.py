"""docs/results.md and README's tables say what benchmarks/results says."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The script, working on a copy of what it reads."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    spec = importlib.util.spec_from_file_location("results_page", ROOT / "scripts" / "results_page.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    shutil.copy(ROOT / "benchmarks/results/geometry_cpu.json", results)
    (tmp_path / "README.md").write_text("before\n<!-- results: geometry -->\nold\n<!-- end -->\nafter\n")
    places = {
        "ROOT": tmp_path,
        "RESULTS": results,
        "PAGE": tmp_path / "docs/results.md",
        "README": tmp_path / "README.md",
    }
    for name, value in places.items():
        monkeypatch.setattr(module, name, value)
    return module


def test_the_page_and_the_readme_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "scripts/results_page.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_tables_follow_the_files(page, capsys):
    assert page.main(["--check"]) == 1 and "README.md is not what benchmarks/results says" in capsys.readouterr().out
    assert page.main([]) == 0 and page.main(["--check"]) == 0
    text = page.README.read_text()
    assert text.startswith("before\n<!-- results: geometry -->\n| capture |") and "old" not in text
    assert text.endswith("<!-- end -->\nafter\n")
    file = page.RESULTS / "geometry_cpu.json"
    found = json.loads(file.read_text())
    found["captures"]["buddha"]["points"] = 12345
    file.write_text(json.dumps(found))
    assert page.main(["--check"]) == 1
    page.main([])
    assert "12345" in page.README.read_text() and "12345" in page.PAGE.read_text()
