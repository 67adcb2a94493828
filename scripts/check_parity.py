"""Prove that this code computes what ViewCrafter computes: run a folder of reference vectors.

python scripts/check_parity.py FOLDER
"""

import sys

from fvgen.evaluation.parity.command import main

if __name__ == "__main__":
    sys.exit(main())
