"""Text files as users have them, whatever wrote them."""

from __future__ import annotations

import codecs
from pathlib import Path


def read_text(path: Path, errors: str = "strict") -> str:
    """The file's text, lines ending with ``\\n``: UTF-8, or the UTF-16 that Windows' PowerShell writes and marks.

    Args:
        path: the file.
        errors: as for `bytes.decode`, of UTF-8.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: bytes that are no text, a `ValueError`.
    """
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", "replace")
    else:
        text = data.decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")
