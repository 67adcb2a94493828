"""What ``--help`` of a command says."""

import re

_OPTION = re.compile(r"--[a-z][\w.-]*\w")
_NOTE = re.compile(r"\((?:default|required|optional|fixed|repeatable|sets)\b.*")


def options(text: str) -> dict[str, str]:
    """Option -> its line of help, as tyro prints them in one column; "" where there is none."""
    found: dict[str, str] = {}
    name = ""
    for printed in text.splitlines():
        line = printed[2:].rstrip("│ ")
        inside = printed.startswith(("│ ", "  ")) and not line.startswith("-h")  # a frame, or none in a plain terminal
        if not inside or "──" in line or "----" in line:
            name = ""
        elif match := _OPTION.match(line):
            name = match[0]
            found[name] = line
        elif name:
            found[name] += f" {line}"
    return {name: _help(entry) for name, entry in found.items()}


def _help(entry: str) -> str:
    """An entry without its names, its kinds of value and its default."""
    inner = re.compile(r"\{[^{}]*\}|\[[^\[\]]*\]")
    while inner.search(entry):  # [INT [INT ...]]
        entry = inner.sub(" ", entry)
    entry = re.sub(r"\s+", " ", _OPTION.sub("", entry))
    entry = re.sub(r"^[ ,|]*(?:[A-Z]+\b[ ,|]*)*", "", entry)
    return _NOTE.sub("", entry).strip()
