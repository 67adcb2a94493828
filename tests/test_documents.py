"""Markdown: links lead somewhere, and files that are named are there."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".venv", "outputs", "demo", "runs", "build", ".pytest_cache"}
DOCUMENTS = sorted(p for p in ROOT.rglob("*.md") if not SKIPPED & set(p.relative_to(ROOT).parts))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:fvgen|fvgen_ns|tests|benchmarks|scripts|docs|examples)/[\w./-]+\.\w+)`")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def headings(path: Path) -> set[str]:
    """Anchors of a document, as GitHub makes them."""
    lines = FENCE.sub("", path.read_text(encoding="utf-8")).splitlines()
    titles = [line.lstrip("#").strip().lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def broken(path: Path) -> list[str]:
    """Links of a document that lead nowhere, those into the web left out."""
    found = []
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = unquote(target).partition("#")
        place = path if not name else path.parent / name
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in headings(place)):
            found.append(target)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    assert broken(path) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_are_there(path):
    names = set(NAMED.findall(path.read_text(encoding="utf-8")))
    assert [name for name in sorted(names) if "NAME" not in name and not (ROOT / name).exists()] == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title, here\n[a](#a-title-here) [b](#nothing) [c](gone.md) [d](https://example.org)\n")
    assert broken(page) == ["#nothing", "gone.md"]


def test_the_front_door_is_whole():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", ".pre-commit-config.yaml"):
        assert (ROOT / name).is_file(), name
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert any(step.get("run") == "bash .ci/run" for step in workflow["jobs"]["test"]["steps"])
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text()), form


def test_the_version_is_the_same_everywhere():
    import fvgen

    assert f'version = "{fvgen.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == fvgen.__version__
    assert f"## [{fvgen.__version__}] - " in (ROOT / "CHANGELOG.md").read_text()
