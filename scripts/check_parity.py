"""Prove that this code computes what ViewCrafter computes: run a folder of reference vectors.

    python scripts/check_parity.py FOLDER

Prints each file's largest error against its tolerance and one summary line. Exits with 1 when a file fails, holds
references that are not compared, or is of a kind that cannot be run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from fvgen.checks import InputError
from fvgen.evaluation.parity.run import FileReport, check_folder


def _line(report: FileReport) -> str:
    worst = report.worst
    figures = f"{'-':>9} {'-':>9} {'':3}"
    if worst is not None:
        figures = f"{worst.error:9.2e} {worst.tolerance:9.2e} {worst.unit:3}"
    detail = report.failure or (worst.name if worst is not None else "nothing was compared")
    verdict = "ok" if report.passed else "FAIL"
    return f"{verdict:4}  {report.name:38} {figures} {len(report.comparisons):4}  {detail}"


def main(folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]) -> None:
    """Check every vector file of a folder.

    Args:
        folder: holds <kind>_<name>.safetensors files, each with its configuration in a json beside it or inside.
    """
    try:
        reports = []
        print(f"{'':4}  {'file':38} {'error':>9} {'allowed':>9} {'':3} {'of':>4}  worst tensor")
        for report in check_folder(folder):
            reports.append(report)
            print(_line(report), flush=True)
    except InputError as error:
        sys.exit(str(error))
    failed = [report.name for report in reports if not report.passed]
    compared = sum(len(report.comparisons) for report in reports)
    print(
        f"parity: {len(reports) - len(failed)} of {len(reports)} files passed, {compared} tensors compared"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    tyro.cli(main)
