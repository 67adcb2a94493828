"""What stands in the text of a viser page: pictures, and words of others."""

from __future__ import annotations

import base64
import io

from PIL import Image
from torch import Tensor

from fvgen.pictures import image_bytes


def markdown_picture(picture: Tensor, name: str) -> str:
    """Markdown that shows a picture [3, H, W] in [0, 1]; nothing else may stand in the same element.

    Give the element an ``image_root``, which is not looked into: viser warns without one.
    """
    buffer = io.BytesIO()
    Image.fromarray(image_bytes(picture)).save(buffer, "JPEG", quality=90)
    return f"![{name}](data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()})"


def as_code(text: str) -> str:
    """Markdown that shows any text as it is: the page takes angle brackets and braces elsewhere for programs."""
    return "`" + text.replace("`", "'") + "`" if text else ""
