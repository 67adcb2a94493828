"""Writes docs/results.md, and the tables between markers in README.md, from benchmarks/results/*.json and nothing else.

python scripts/results_page.py           writes
python scripts/results_page.py --check   says whether both are up to date; exit code 1 where they are not

A marker in README.md is ``<!-- results: NAME -->``, closed by ``<!-- end -->``; NAME is a table of
`results_tables.README_TABLES`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results_tables import README_TABLES, TABLES, ResultsTable

from fvgen.command import run
from fvgen.evaluation.published_rows import published_lines, published_table
from fvgen.files import store

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
_MARKER = re.compile(r"(<!-- results: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_HEAD = """# Results

Written by `scripts/results_page.py` from the JSON files in `benchmarks/results`, which the programs in `benchmarks` and
`fvgen evaluate` have written. Nothing here is typed by hand. ± is the standard error of the mean over seeds.
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for table in TABLES.values():
        found = _read(table)
        if found is not None:
            machine = found.get("machine") or {}
            where = ", ".join(str(machine[key]) for key in ("date", "gpu", "processor") if machine.get(key))
            source = f"`benchmarks/results/{table.file}`" + (f": {where}" if where else "")
            parts.append("\n".join([f"## {table.title}\n", f"{table.about} {source}.\n", *table.lines(found)]) + "\n")
    fvgen = published_table("fvgen")
    parts.append(
        "\n".join(["## The FVGen paper's tables\n", "Published, not run here.\n", *published_lines(fvgen.rows)]) + "\n"
    )
    return "\n".join(parts)


def filled(text: str) -> str:
    """README's text with the tables between its markers."""

    def table(match: re.Match[str]) -> str:
        found = _read(README_TABLES[match[2]])
        lines = [] if found is None else README_TABLES[match[2]].lines(found)
        return "".join([match[1], "\n".join(lines), "\n" if lines else "", match[4]])

    return _MARKER.sub(table, text)


def _read(table: ResultsTable) -> dict[str, Any] | None:
    path = RESULTS / table.file
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@dataclass
class ResultsPage:
    """Write docs/results.md, and the tables between markers in README.md, from benchmarks/results."""

    check: bool = False
    """Compare instead of writing. The exit code is 1 where they differ."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(ResultsPage, write_page, arguments)


def write_page(options: ResultsPage) -> int:
    """Write both files, or compare them: 1 where they differ."""
    wanted = {PAGE: page(), README: filled(README.read_text(encoding="utf-8"))}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if options.check:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what benchmarks/results says. Run: python scripts/results_page.py")
        return int(bool(stale))
    for path in stale:
        store(path, wanted[path].encode())
        print(f"Written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
