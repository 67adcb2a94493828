"""The FVGen paper's Tables 1, 2 and 3, as far as the weights and data at hand allow; what is missing is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fvgen.checks import require
from fvgen.evaluation.evaluate_views import EvaluateViews, evaluate_views
from fvgen.evaluation.scores import WITHOUT_DOWNLOADS, Metric


@dataclass(frozen=True)
class PaperRow:
    """A row of a table, and how to come by what it needs."""

    name: str
    how: str
    """Command or address that gives the network or the frames."""
    kind: str = ""
    """"student" or "teacher" where we can run it; empty for other programs, whose frames are read."""


_TEACHER = PaperRow("ViewCrafter", "fvgen download viewcrafter-25-sparse, then fvgen convert", "teacher")
_FVGEN = PaperRow("FVGen", "fvgen distill --preset fvgen-stage1, then fvgen-stage2", "student")
_OTHERS = (
    PaperRow("DepthSplat", "https://github.com/cvg/depthsplat, its test with save_image"),
    PaperRow("MVSplat360", "https://github.com/donydchen/mvsplat360, its test with save_image"),
)
TABLES: Mapping[int, tuple[str, tuple[PaperRow, ...]]] = {
    1: ("fvgen-5-to-56", (*_OTHERS, _TEACHER, _FVGEN)),
    2: (
        "fvgen-2-to-16",
        (
            PaperRow("ViewCrafter + DMD2", "fvgen distill --preset dmd2", "student"),
            PaperRow("ViewCrafter + CausVid", "fvgen distill --preset causvid-init, then causvid", "student"),
            _FVGEN,
        ),
    ),
    3: (
        "fvgen-5-to-56",
        (
            PaperRow("without GAN start", "fvgen distill --preset ablation-no-gan", "student"),
            PaperRow("GAN start only", "fvgen distill --preset fvgen-stage1", "student"),
            PaperRow("GAN start + DMD", "fvgen distill --preset ablation-reverse-kl", "student"),
            _FVGEN,
        ),
    ),
}
"""Number -> protocol and rows."""


@dataclass
class PaperTable:
    """Run a table of the FVGen paper: what is given is run, what is missing is named."""

    number: Annotated[int, tyro.conf.Positional]
    """Table 1, 2 or 3."""
    data: Path
    """Folder of scenes, for example mip-NeRF 360."""
    output: Path
    """Folder for results and the report."""
    models: list[str] = field(default_factory=list)
    """Networks of the table's rows, each as NAME=student:FOLDER or NAME=teacher:FOLDER."""
    frames: list[str] = field(default_factory=list)
    """Frames of other programs, each as NAME=FOLDER."""
    scenes: list[str] = field(default_factory=list)
    """Names of the scenes to run; all by default."""
    weights: Path | None = None
    """Folder of the networks of LPIPS and FID; without it these columns are missing."""
    long_side: int = 512
    """Longest side of the working size in pixels."""


def run_paper_table(options: PaperTable) -> None:
    """Run one table.

    Raises:
        InputError: there is no such table; see also `fvgen.evaluation.evaluate_views.evaluate_views`.
    """
    known = ", ".join(map(str, TABLES))
    require(options.number in TABLES, "number", f"be {known}", options.number, "The paper has these three tables.")
    protocol, rows = TABLES[options.number]
    given = {entry.partition("=")[0] for entry in (*options.models, *options.frames)}
    unknown = sorted(given - {row.name for row in rows})
    names = ", ".join(row.name for row in rows)
    require(not unknown, "names of --models and --frames", f"be out of {names}", ", ".join(unknown), "Mind the case.")
    print(f"Table {options.number} of the FVGen paper, protocol {protocol}. The bundled warp runs beside it.")
    for row in rows:
        if row.name not in given:
            option = f'--models "{row.name}={row.kind}:FOLDER"' if row.kind else f'--frames "{row.name}=FOLDER"'
            print(f"Missing: {row.name}. Give {option}. It comes from: {row.how}.")
    metrics: list[Metric] = [*WITHOUT_DOWNLOADS]
    if options.weights is None:
        print("Missing: LPIPS and FID. Fetch their networks (fvgen evaluate fetch vgg16, inception): --weights FOLDER.")
    else:
        metrics += ["lpips_vgg", "fid"]
    evaluate_views(
        EvaluateViews(
            data=options.data,
            output=options.output,
            protocol=protocol,
            scenes=options.scenes,
            generators=["warp"],
            models=options.models,
            frames=options.frames,
            long_side=options.long_side,
            metrics=metrics,
            weights=options.weights,
        )
    )
