"""The command ``fvgen evaluate``: generated views, splats, the paper's tables, and the networks of LPIPS and FID."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fvgen.command import run
from fvgen.evaluation.evaluate_views import EvaluateViews, evaluate_views
from fvgen.evaluation.extractors import ExtractorName, fetch_extractor
from fvgen.evaluation.paper_tables import PaperTable, run_paper_table
from fvgen_ns.evaluate_splats import EvaluateSplats, evaluate_splats


@dataclass
class Fetch:
    """Fetch the network of LPIPS or FID, after showing its source, size and licence."""

    name: Annotated[ExtractorName, tyro.conf.Positional]
    """Network: vgg16 for lpips_vgg, alexnet for lpips_alex, inception for fid."""
    folder: Path = Path("weights")
    """Folder to fetch into."""
    yes: bool = False
    """Do not ask before fetching."""


Options = (
    Annotated[EvaluateViews, tyro.conf.subcommand("views")]
    | Annotated[EvaluateSplats, tyro.conf.subcommand("splats")]
    | Annotated[PaperTable, tyro.conf.subcommand("table")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
)


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    about = "Measure generated views and splats by written protocols, beside published figures."
    return run(Options, _act, arguments, program, about)


def _act(options: EvaluateViews | EvaluateSplats | PaperTable | Fetch) -> None:
    if isinstance(options, EvaluateViews):
        evaluate_views(options)
    elif isinstance(options, EvaluateSplats):
        evaluate_splats(options)
    elif isinstance(options, PaperTable):
        run_paper_table(options)
    else:
        fetch_extractor(options.name, options.folder, agreed=options.yes)
