"""How a command ends that cannot use its input."""

from __future__ import annotations

import sys
from typing import NoReturn

from nerfstudio.utils.rich_utils import CONSOLE
from rich.markup import escape

from fvgen.checks import InputError


def refuse(error: InputError) -> NoReturn:
    """Say what is wrong with the input, without a traceback, and end the command."""
    CONSOLE.print(f"[bold red]{escape(str(error))}", soft_wrap=True)
    sys.exit(2)
