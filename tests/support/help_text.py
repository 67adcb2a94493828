"""What ``--help`` of a command shows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nerfstudio_commands import run

_TITLE = re.compile(r"(?:╭─ | ?)((?:\S+ )?(?:options|arguments|subcommands))(?: ─+╮|:|\s*)$")
_RULE = re.compile(r"[─-]{8,}╯?")
_NOTE = re.compile(r"\((?:default|required|optional|fixed|repeatable|sets)\b.*")


def shown_help(commands: Sequence[Sequence[str]], cwd: Path) -> list[str]:
    """What each command (a Python file and its arguments) prints with --help, as in a terminal of 100 columns."""
    script = Path(__file__).with_name("show_help.py")
    return json.loads(run(script, json.dumps(commands), cwd=cwd, columns=100).stdout)


def texts(shown: str) -> dict[str, str]:
    """Option, argument, subcommand or group of options -> its text, as tyro and argparse print them; "" for none."""
    entries: dict[str, list[str]] = {}
    section = name = ""
    for line in shown.splitlines():
        content = line[2:].rstrip("│ ")
        if title := _TITLE.match(line):
            section, name = title[1], ""
        elif not section or not content:
            continue
        elif _RULE.fullmatch(content.strip()):
            name = ""
        elif name and entries[name][0].count("{") > entries[name][0].count("}"):  # choices go on in the next line
            entries[name][0] += content
        elif content.startswith("-") or content.lstrip().startswith("•"):
            name = content.lstrip("• ").split()[0].rstrip(",")
            entries[name] = _columns(content.lstrip("• "))
        elif not content.startswith(" ") and section == "positional arguments":
            name = content.split()[0]
            entries[name] = _columns(content)
        elif not content.startswith(" ") and not name:
            name = section
            entries[name] = ["", content]
        elif name:
            entries[name].append(content.strip())
    known = {name: _NOTE.sub("", " ".join(lines[1:])).strip() for name, lines in entries.items()}
    return {name: text for name, text in known.items() if name != "-h" and (text or name.startswith("-"))}


def _columns(content: str) -> list[str]:
    """Names and kinds of value, and the text beside them."""
    left, _, right = re.sub(r"\s{2,}", "\0", content, count=1).partition("\0")
    return [left, right]
