"""The command that proves this code computes what ViewCrafter computes, on a folder of reference vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fvgen.command import run

if TYPE_CHECKING:
    from fvgen.evaluation.parity.run import FileReport


@dataclass(frozen=True)
class ParityOptions:
    """Check every reference file of a folder against this code.

    Prints each file's largest error against its tolerance and one summary line. Exits with 1 when a file fails, holds
    references that are not compared, or is of a kind that cannot be run.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of <kind>_<name>.safetensors files, each with its configuration in a JSON file beside it or inside."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(ParityOptions, check_parity, arguments, program)


def check_parity(options: ParityOptions) -> int:
    """Check, print a line per file and a summary; 1 when a file failed, else 0.

    Raises:
        InputError: the folder holds no reference files.
    """
    from fvgen.evaluation.parity.run import check_folder  # after the command line: --help is instant

    reports = []
    folder = check_folder(options.folder)
    print(f"{'':4}  {'file':38} {'error':>9} {'allowed':>9} {'':3} {'of':>4}  worst tensor")
    for report in folder:
        reports.append(report)
        print(_line(report), flush=True)
    failed = [report.name for report in reports if not report.passed]
    compared = sum(len(report.comparisons) for report in reports)
    print(
        f"parity: {len(reports) - len(failed)} of {len(reports)} files passed, {compared} tensors compared"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


def _line(report: FileReport) -> str:
    worst = report.worst
    figures = f"{'-':>9} {'-':>9} {'':3}"
    if worst is not None:
        figures = f"{worst.error:9.2e} {worst.tolerance:9.2e} {worst.unit:3}"
    detail = report.failure or (worst.name if worst is not None else "nothing was compared")
    verdict = "ok" if report.passed else "FAIL"
    return f"{verdict:4}  {report.name:38} {figures} {len(report.comparisons):4}  {detail}"
