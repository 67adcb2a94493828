"""Figures that papers have printed, with their sources: read, not run here, as ``status`` says in each file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fvgen.checks import require

TABLES = ("llff", "mip360", "blender8", "dl3dv_re10k", "dtu", "tanks", "fvgen")
STATUS = "published, not run here"
_YES_NO: dict[object, str] = {True: "yes", False: "no"}


@dataclass(frozen=True)
class PublishedTable:
    """One file of figures."""

    protocol: str
    """How the papers measure, and where they differ."""
    notes: tuple[str, ...]
    sources: dict[str, Any]
    """``source_id`` of a row -> title, year, how exactly it was read."""
    rows: tuple[dict[str, Any], ...]
    """``method``, ``views``, ``scene`` ("mean" for the whole set), ``psnr``, ``ssim``, ``lpips``, ``source``, ..."""

    def select(self, **wanted: object) -> list[dict[str, Any]]:
        """Rows with these values, best PSNR first; rows without PSNR come last.

        Args:
            **wanted: key -> value, such as ``scene="fern", views=3``.
        """
        chosen = [row for row in self.rows if all(row.get(key) == value for key, value in wanted.items())]
        return sorted(chosen, key=lambda row: -(row.get("psnr") or float("-inf")))


def published_table(name: str) -> PublishedTable:
    """The figures of a data set.

    Raises:
        InputError: there is no table of that name.
    """
    require(name in TABLES, "table", f"be one of {', '.join(TABLES)}", name, "Name one of them.")
    found = json.loads((files("fvgen.evaluation") / "published" / f"{name}.json").read_text(encoding="utf-8"))
    require(
        found["status"] == STATUS, f"table {name}", f"say '{STATUS}'", found["status"], "Install the package again."
    )
    return PublishedTable(found["protocol"], tuple(found["notes"]), found["sources"], tuple(found["rows"]))


def published_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as lines of a Markdown table."""
    head = "| method | scene | photos | PSNR | SSIM | LPIPS | weights-free | source |"
    lines = [head, "|---|---|---:|---:|---:|---:|---|---|"]
    for row in rows:
        figures = ["" if row.get(key) is None else str(row[key]) for key in ("views", "psnr", "ssim", "lpips")]
        free = _YES_NO.get(row.get("weights_free"), "not said")
        lines.append(f"| {row['method']} | {row['scene']} | {' | '.join(figures)} | {free} | {row['source']} |")
    return lines
