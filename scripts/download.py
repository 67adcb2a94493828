"""Fetch released ViewCrafter weights from the Hugging Face hub: shown first, resumable, checked.

python scripts/download.py viewcrafter-512
"""

import sys

from fvgen.models.download import main

if __name__ == "__main__":
    sys.exit(main())
