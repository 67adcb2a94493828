"""What an evaluation found, for people: JSON, Markdown, a grid of pictures, and one HTML file that opens offline."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from fvgen.evaluation.published_rows import published_lines
from fvgen.files import store, whole_file, write_json

_DIGITS = {"psnr": 2, "psnr_affine": 2, "ssim": 3, "st_lpips": 3, "lpips_vgg": 3, "lpips_alex": 3, "avge": 4, "fid": 2}
_TILE = 240
"""Pixels of a picture's width in the grid."""
_STYLE = (
    "body{font:16px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}td,th{padding:.2em .7em;text-align:right}"
)


@dataclass
class EvaluationReport:
    """Tables and pictures of one evaluation."""

    title: str
    notes: list[str]
    """What a reader must know: protocol, what differs, what failed, what is missing."""
    rows: dict[str, dict[str, dict[str, float]]]
    """Scene -> method -> score; the scene "mean" holds the means."""
    published: list[dict[str, Any]] = field(default_factory=list)
    """Rows of papers to stand beside the means."""
    pictures: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)
    """Scene -> method, or "photo" -> pictures [H, W, 3] uint8 of the same views."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Settings and versions, for the JSON."""

    def write(self, folder: Path) -> list[Path]:
        """Write ``report.json``, ``report.md``, ``report.html`` and, where there are pictures, ``pictures.png``.

        Raises:
            OSError: the folder cannot be written.
        """
        figures = {"title": self.title, "notes": self.notes, "scenes": self.rows, "published": self.published}
        files = [folder / name for name in ("report.json", "report.md", "report.html")]
        write_json(files[0], figures | self.facts)
        store(files[1], self.markdown().encode())
        grid = self._grid()
        store(files[2], self._html(grid).encode())
        if grid is not None:
            files.append(folder / "pictures.png")
            with whole_file(files[-1]) as unfinished:
                Image.fromarray(grid).save(unfinished, "PNG")
        return files

    def markdown(self) -> str:
        """Notes and tables."""
        parts = [f"# {self.title}", *(f"- {note}" for note in self.notes)]
        for scene, methods in self.rows.items():
            parts += ["", f"## {scene}", "", *_table(methods)]
        if self.published:
            parts += ["", "## Published, not run here", "", *published_lines(self.published)]
        return "\n".join(parts) + "\n"

    def _html(self, grid: np.ndarray | None) -> str:
        picture = ""
        if grid is not None:
            _, data = cv2.imencode(".jpg", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
            encoded = base64.b64encode(data.tobytes()).decode()
            picture = f'<img style="max-width:100%" alt="pictures" src="data:image/jpeg;base64,{encoded}">'
            picture += f"<p>Columns: {html.escape(', '.join(self._columns()))}.</p>"
        body = [f"<h1>{html.escape(self.title)}</h1>", "<ul>"]
        body += [f"<li>{html.escape(note)}</li>" for note in self.notes] + ["</ul>", picture]
        for scene, methods in self.rows.items():
            body += [f"<h2>{html.escape(scene)}</h2>", _html_table(_table(methods))]
        if self.published:
            body += ["<h2>Published, not run here</h2>", _html_table(published_lines(self.published))]
        head = f'<meta charset="utf-8"><title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        return f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>"

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for methods in self.pictures.values() for name in methods))

    def _grid(self) -> np.ndarray | None:
        """A row per view; columns are the photo and the methods. A method that failed on a scene leaves white."""
        columns, lines = self._columns(), []
        for methods in self.pictures.values():
            for i, photo in enumerate(methods.get("photo", [])):
                height = max(round(_TILE * photo.shape[0] / photo.shape[1]), 1)
                tiles = []
                for name in columns:
                    tile = np.full((height, _TILE, 3), 255, dtype=np.uint8)
                    if i < len(methods.get(name, [])):
                        tile[:] = cv2.resize(methods[name][i], (_TILE, height), interpolation=cv2.INTER_AREA)
                    tiles.append(tile)
                lines.append(np.concatenate(tiles, axis=1))
        return np.concatenate(lines) if lines else None


def mean_over_scenes(rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Per method the mean of each score over the scenes in which all methods have it: equal scenes for all."""
    methods = list(dict.fromkeys(name for scene in rows.values() for name in scene))
    means: dict[str, dict[str, float]] = {}
    for method in methods:
        keys = [key for key in next(s[method] for s in rows.values() if method in s) if not key.endswith("_se")]
        whole = [scene for scene in rows.values() if all(m in scene and "psnr" in scene[m] for m in methods)]
        means[method] = {k: float(np.mean([s[method][k] for s in whole if k in s[method]])) for k in keys if whole}
    return means


def _table(methods: Mapping[str, Mapping[str, float]]) -> list[str]:
    keys = [k for k in dict.fromkeys(key for row in methods.values() for key in row) if not k.endswith("_se")]
    lines = [f"| method | {' | '.join(keys)} |", f"|---|{'---:|' * len(keys)}"]
    for name, row in methods.items():
        cells = []
        for key in keys:
            digits = _DIGITS.get(key, 1)
            error = f" ±{row[f'{key}_se']:.{digits}f}" if f"{key}_se" in row else ""
            cells.append(f"{row[key]:.{digits}f}{error}" if key in row else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _html_table(lines: Sequence[str]) -> str:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in cells[0])
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in cells[2:])
    return f"<table><tr>{head}</tr>{body}</table>"
