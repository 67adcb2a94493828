"""The page ``report.html``: one file that opens without a network."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image
from torch import Tensor

from fvgen.pictures import image_bytes
from fvgen_ns.report.figures import METRICS, ComparedPhoto, RunFigures

DIFFERENCE_GAIN = 3
"""Factor on differences, so that small ones can be seen."""
_MEANING = {
    "psnr": "decibels; higher is closer to the photo, 3 dB more is half the squared error",
    "ssim": "0 to 1; higher keeps more of the structure",
    "st_lpips": "0 is the same to the eye; lower is better, small shifts are forgiven",
}
_OF_PHOTOS = {
    "held-out photos": "The splat was not trained on them.",
    "training photos": "None are held out: the splat was trained on them, and the figures say nothing of new views.",
}
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .9em;text-align:left;border-bottom:1px solid #ddd}
figure{margin:1em 0}img,video{max-width:100%;border-radius:4px}.row{display:flex;gap:6px}.row div{flex:1}
.row p{margin:0;font-size:14px;color:#555}code,pre{background:#f4f4f4;border-radius:4px;padding:.1em .3em}
pre{padding:.8em;overflow:auto}iframe{width:100%;height:480px;border:1px solid #ccc;border-radius:4px}"""
_FILL_FRAME = """(page => {
const frame = document.querySelector("iframe").contentDocument; frame.open(); frame.write(page); frame.close();
})"""
"""Writes a page into the frame, which then has this page's address: as srcdoc it would have none, and the viewer asks
for one."""


@dataclass(frozen=True)
class Report:
    """What the page shows."""

    title: str
    figures: RunFigures
    compared: Sequence[ComparedPhoto]
    film: bytes | None
    """H.264."""
    viewer: str | None
    """A page that shows the splat and needs no other file; None where it could not be made."""
    commands: Mapping[str, str]
    """What can be done next -> command."""
    photos_only: RunFigures | None = None
    """The same with photos alone, where that was asked for."""
    photos_only_renders: Sequence[Tensor] = ()
    """Its pictures, one per photo, each [3, H, W]."""


def report_html(report: Report) -> str:
    """The page."""
    film = "" if report.film is None else f"<h2>Film</h2><video controls loop muted src='{_film(report.film)}'></video>"
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _metrics(report),
        "<h2>Pictures</h2>",
        *_pictures(report),
        film,
        _viewer(report),
        _list("What to know", report.figures.notes),
        _table("Counts", report.figures.counts.items()),
        _table("Seconds", ((part, f"{seconds:.0f}") for part, seconds in report.figures.seconds.items())),
        "<h2>Next</h2>",
        *(f"<p>{escape(what)}:</p><pre>{escape(command)}</pre>" for what, command in report.commands.items()),
    ]
    head = f"<meta charset='utf-8'><title>{escape(report.title)}</title><style>{_STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _metrics(report: Report) -> str:
    others = report.photos_only
    columns = ["this run"] + (["photos only"] if others else [])
    header = "".join(f"<th>{name}</th>" for name in ("", *columns, "meaning"))
    rows = []
    for name, label in METRICS.items():
        values = [run.metrics[name] for run in (report.figures, others) if run is not None]
        cells = "".join(f"<td>{value:.{2 if name == 'psnr' else 3}f}</td>" for value in values)
        rows.append(f"<tr><th>{label}</th>{cells}<td>{_MEANING[name]}</td></tr>")
    note = _OF_PHOTOS[report.figures.photos]
    return f"<p>Means over {report.figures.photos}. {note}</p><table><tr>{header}</tr>{''.join(rows)}</table>"


def _pictures(report: Report) -> list[str]:
    rows = []
    for i, one in enumerate(report.compared):
        difference = (DIFFERENCE_GAIN * (one.photo - one.render).abs()).clamp(0, 1)
        pictures = {"photo": one.photo, "this run": one.render, f"difference, times {DIFFERENCE_GAIN}": difference}
        if report.photos_only_renders:
            pictures["photos only"] = report.photos_only_renders[i]
        cells = (f"<div><img src='{_jpeg(picture)}'><p>{what}</p></div>" for what, picture in pictures.items())
        caption = f"<figcaption>{escape(one.name)}, {one.metrics['psnr']:.1f} dB</figcaption>"
        rows.append(f"<figure><div class='row'>{''.join(cells)}</div>{caption}</figure>")
    return rows


def _viewer(report: Report) -> str:
    if report.viewer is None:
        how = "<p>Nothing on this machine could make a web viewer. With Node installed: see the commands below.</p>"
        return f"<h2>The splat</h2>{how}"
    page = json.dumps(report.viewer).replace("<", "\\u003c")  # no tag within a script ends it
    return f"<h2>The splat</h2><iframe title='The splat'></iframe><script>{_FILL_FRAME}({page})</script>"


def _list(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""


def _table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    body = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(value))}</td></tr>" for name, value in rows)
    return f"<h2>{title}</h2><table>{body}</table>"


def _jpeg(picture: Tensor) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image_bytes(picture)).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _film(content: bytes) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
