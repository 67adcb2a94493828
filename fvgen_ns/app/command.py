"""``fvgen app``: a page on this machine to choose photos, find their poses, train, watch and fetch the splat."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvgen.checks import require
from fvgen.command import run

_REFRESH_SECONDS = 1.0


@dataclass
class App:
    """Open a page on this machine: choose photos or a video, train a splat, watch it, download it."""

    port: int = 7100
    """Port of the page, which only this machine can open."""
    output_dir: Path = Path("outputs")
    """Folder of runs and of uploaded photos."""


def main(arguments: Sequence[str] | None = None, program: str | None = None) -> int:
    """The command; see `fvgen.command.run`."""
    return run(App, _serve, arguments, program)


def _serve(config: App) -> None:
    require(0 < config.port < 65536, "--port", "lie between 1 and 65535", config.port, "Leave it out.")
    from fvgen_ns.app.page import AppPage  # takes seconds to load

    page = AppPage(config.port, config.output_dir)
    print(f"Open http://127.0.0.1:{page.port} in a browser. Ctrl-C ends it, and what it has started.", flush=True)
    ended = threading.Event()
    # An exception in the middle of a message would leave viser locked; and what is started would ignore SIGINT where
    # this process does, as in a shell's background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    while not ended.wait(_REFRESH_SECONDS):
        page.refresh()
    page.close()
