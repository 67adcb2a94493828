"""Fetch released ViewCrafter weights from the Hugging Face hub: shown first, resumable, checked.

python scripts/download.py viewcrafter-512
"""

from __future__ import annotations

import sys

import tyro

from fvgen.checks import InputError
from fvgen.models.download import DownloadOptions, download

if __name__ == "__main__":
    try:
        download(tyro.cli(DownloadOptions))
    except InputError as error:
        sys.exit(str(error))
