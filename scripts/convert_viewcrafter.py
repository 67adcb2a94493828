"""ViewCrafter checkpoint -> pipeline folder, or back with --reverse.

python scripts/convert_viewcrafter.py checkpoints/viewcrafter-512/model.ckpt models/viewcrafter-512
"""

from __future__ import annotations

import sys

import tyro

from fvgen.checks import InputError
from fvgen.generation.conversion import ConversionOptions, convert

if __name__ == "__main__":
    try:
        convert(tyro.cli(ConversionOptions))
    except InputError as error:
        sys.exit(str(error))
