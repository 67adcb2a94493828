"""The page at the end of a run."""

from __future__ import annotations

import shlex
from html.parser import HTMLParser

import torch
from run_report import figures, report

from fvgen_ns.report.figures import RunFigures
from fvgen_ns.report.finish import next_commands
from fvgen_ns.report.page import report_html


class Balanced(HTMLParser):
    """Collects tags that are opened and not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_next_commands_can_be_pasted(tmp_path):
    run = tmp_path / "my [first] run"
    for command in next_commands(run).values():
        assert {str(run), str(run / "config.yml")} & {*shlex.split(command)}


def test_a_page_is_whole_and_names_are_escaped():
    page = report_html(report(figures=figures(notes=["<script>"])))
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "a&lt;b&gt;.png, 21.5 dB" in page and "<li>&lt;script&gt;</li>" in page
    assert "<iframe " in page and page.count("<script>") == 1 and "src='splat" not in page


def test_photos_only_have_a_column_only_where_they_were_trained():
    assert "photos only" not in report_html(report())
    page = report_html(report(photos_only=figures(psnr=17.25), photos_only_renders=[torch.rand(3, 8, 12)]))
    assert "<th>photos only</th>" in page and "<td>17.25</td>" in page
    assert page.count("<img ") == 4


def test_figures_of_training_photos_say_so():
    page = report_html(report(figures=figures("training photos"), film=None, viewer=None))
    assert "Means over training photos. None are held out" in page
    assert "<video" not in page and "<iframe" not in page and "web viewer" in page


def test_figures_come_back_from_their_file(tmp_path):
    assert RunFigures.read(tmp_path) is None
    figures(notes=["one"]).write(tmp_path)
    assert RunFigures.read(tmp_path) == figures(notes=["one"])
