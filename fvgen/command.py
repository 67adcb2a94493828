"""How every command of this package begins and ends: options are parsed, bad input is one line and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from fvgen.checks import InputError


def run(
    options: Any,
    action: Callable[[Any], int | None],
    arguments: Sequence[str] | None = None,
    program: str | None = None,
    description: str | None = None,
) -> int:
    """Parse a command line and act on it.

    Args:
        options: a dataclass, or a union of several as sub-commands.
        action: what to do with the options; returns an exit code, or None for 0.
        arguments: the command line after the program's name; the process's own when not given.
        program: how help calls the program; its file's name when not given.
        description: the first part of the help; the docstring of the dataclass when not given.

    Returns:
        The exit code: 2, after one line on standard error, when input is refused.

    Raises:
        SystemExit: by tyro, with 0 after help and 2 for a command line that it cannot parse.
    """
    try:
        parsed = tyro.cli(options, args=arguments, prog=program, description=description)
        return action(parsed) or 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
