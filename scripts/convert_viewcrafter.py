"""ViewCrafter checkpoint -> pipeline folder, or back with --reverse.

python scripts/convert_viewcrafter.py checkpoints/viewcrafter-512/model.ckpt models/viewcrafter-512
"""

import sys

from fvgen.generation.conversion import main

if __name__ == "__main__":
    sys.exit(main())
