"""Prove that this code computes what ViewCrafter computes: run a folder of reference vectors.

python scripts/check_parity.py FOLDER
"""

from __future__ import annotations

import sys

import tyro

from fvgen.checks import InputError
from fvgen.evaluation.parity.command import ParityOptions, check_parity

if __name__ == "__main__":
    try:
        sys.exit(check_parity(tyro.cli(ParityOptions)))
    except InputError as error:
        sys.exit(str(error))
